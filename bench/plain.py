"""The baseline of the web process: a Flask route that reads the body and responds with 202."""

from flask import Flask, request

app = Flask("plain", static_folder=None)


@app.post("/webhooks/sentry")
def receive() -> tuple[dict[str, str], int]:
    """Read the body and acknowledge it."""
    request.get_data(cache=False)
    return {"status": "accepted"}, 202


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Report that the process is up."""
    return {"status": "ok"}
