"""The baseline of the web process: a Flask route that reads the body and answers 202, and nothing else."""

from flask import Flask, request

app = Flask("plain", static_folder=None)


@app.post("/webhooks/sentry")
def take_in() -> tuple[dict[str, str], int]:
    """Read, and say so."""
    request.get_data(cache=False)
    return {"status": "accepted"}, 202


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Up."""
    return {"status": "ok"}
