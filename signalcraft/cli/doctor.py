"""``doctor``: check a deployment, one line a finding with advice; or diagnose a bad signature."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import click
from peewee import PeeweeException
from redis import Redis
from rich.console import Console
from rich.markup import escape

from signalcraft import http_client
from signalcraft.cli import doctor_checks
from signalcraft.cli.context import database, prompt_secret, workspace_option
from signalcraft.cli.doctor_checks import Finding, Grade, failure, ok, warning
from signalcraft.domain.deliveries import Secret
from signalcraft.domain.errors import InvalidSetting, SignalCraftError
from signalcraft.ingest import canary
from signalcraft.notify import extensions
from signalcraft.queues import canary_proof, redis_clients
from signalcraft.settings import Settings
from signalcraft.sources import DEFAULT_SOURCE, SOURCES, Source
from signalcraft.sources.diagnosis import Candidate, Verdict
from signalcraft.sources.protocol import comma_separated
from signalcraft.storage import tenants
from signalcraft.storage.database import open_database
from signalcraft.web.health import State

_COLOURS: Final = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FAILURE: "bold red"}
_SAMPLE_TIMEOUT_SECONDS: Final = 15.0


@click.command()
@click.option(
    "--url", help="Also check the web process at this URL, and send the sample through it: to its workspace's URL."
)
@click.option("--delivery", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Only report why the body in FILE, byte for byte, does not match its signature.")  # fmt: skip
@click.option(
    "--signature", metavar="HEX", default="", help="Signature of that body, or the whole header line: 'Header: hex'."
)
@click.option("--secret", "with_secret", is_flag=True, help="Ask for a secret, or read it from standard input.")
@click.option("--source", type=click.Choice(list(SOURCES)),
              help="Source of the sample, by default the first with a secret, and of the body in FILE.")  # fmt: skip
@workspace_option(default="DEFAULT_WORKSPACE")
def doctor(
    *,
    url: str | None,
    delivery: Path | None,
    signature: str,
    with_secret: bool,
    source: str | None,
    workspace: str | None,
) -> None:
    """Report what works, what does not, and what to do. Exits with 1 on a failure, not on a warning."""
    if delivery is not None:
        extra = prompt_secret() if with_secret else ""
        sender = SOURCES[source] if source else DEFAULT_SOURCE
        _diagnose(sender, delivery.read_bytes(), signature, _candidates(sender, extra, workspace))
        return
    console, failures = Console(highlight=False), 0
    for finding in examine(url, workspace, SOURCES[source] if source else None):
        failures += finding.grade is Grade.FAILURE
        text = escape(f"{finding.about:10} {finding.says} {finding.advice}".rstrip())
        console.print(f"[{_COLOURS[finding.grade]}]{finding.grade.value:7}[/] {text}", soft_wrap=True)
    if failures:
        raise click.ClickException("the deployment does not work.")


def examine(url: str | None, workspace: str | None, source: Source | None = None) -> Iterator[Finding]:
    """Yield all findings, in the order in which to repair them.

    ``workspace`` is the one that the sample is sent to, by default DEFAULT_WORKSPACE. The sample is of ``source``, by
    default of the first that has a secret.
    """
    yield from doctor_checks.check_names(os.environ)
    try:
        settings = Settings.from_environ(os.environ)
        extensions.rules(settings)
        extensions.notifier(settings)
    except InvalidSetting as error:
        yield failure("settings", str(error), "See .env.example.")
        return
    open_database(settings.database_url)
    redis = redis_clients.for_web(settings.redis_url)
    for check in doctor_checks.CHECKS:
        yield from check(settings, redis)
    slug = workspace or settings.default_workspace
    try:
        found = doctor_checks.signing_secret(slug, settings, source)
    except tenants.TenancyError as error:
        yield failure("workspace", str(error), "Correct --workspace, or `workspace create` it.")
        return
    if url is not None:
        try:
            yield from _examine_readiness(url)
        except http_client.ServerUnreachable as error:
            yield failure("url", str(error), "Start the web process, or correct the URL.")
            return
    if found is None:
        problem = failure if workspace else warning
        says = f"Not sent: no live secret of the workspace {slug} can sign it."
        variable = (source or DEFAULT_SOURCE).KINDS[0].variable
        yield problem("sample", says, f"Set {variable}, or `secret add`, to test the whole pipeline.")
        return
    sender, secret = found
    if url is None:
        yield from _send_sample(lambda: canary.enqueue_canary(settings, redis, slug, sender), redis)
    else:
        yield from _examine_url(_webhook_url(url, sender, workspace), sender, secret, redis)


def _webhook_url(url: str, source: Source, workspace: str | None) -> str:
    """Append the webhook path to a URL that has no path.

    ``workspace`` is appended to one that names no workspace.
    """
    path = f"/webhooks/{source.NAME}"
    if urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + path
    return f"{url}/{workspace}" if workspace and url.endswith(path) else url


def _examine_readiness(url: str) -> Iterator[Finding]:
    """Check that the web process decrypts all secrets: its ENCRYPTION_KEY may be another than that of this process.

    Raises:
        ServerUnreachable: nobody answers there.
    """
    secrets = http_client.get(urljoin(url, "/readyz")).body.get("secrets")
    if isinstance(secrets, dict) and secrets.get("state") == State.UNDECRYPTABLE:
        says = f"The web process refuses {', '.join(secrets.get('loses', ()))}."
        yield failure("url", says, "Give it the ENCRYPTION_KEY that `secret add` had, and restart it.")


def _examine_url(url: str, source: Source, secret: Secret, redis: Redis) -> Iterator[Finding]:
    """Check the response that the sender would get, and that the delivery becomes a stored event."""
    began = time.monotonic()
    try:
        response = canary.post(url, source, secret.value.decode())
    except http_client.ServerUnreachable as error:
        yield failure("url", str(error), "Start the web process, or correct the URL.")
        return
    seconds = time.monotonic() - began
    yield _judge_response(url, source, response, seconds, secret)
    if response.status == HTTPStatus.ACCEPTED:
        yield from _send_sample(lambda: str(response.body.get("delivery_id", "")), redis)


def _judge_response(
    url: str, source: Source, response: http_client.Response, seconds: float, secret: Secret
) -> Finding:
    says = f"{url} responds with {response.status} {response.body.get('code', '')}".strip() + "."
    if response.status == HTTPStatus.ACCEPTED and seconds > source.TRAITS.answer_within:
        advice = f"{source.TITLE} gives up after {source.TRAITS.answer_within:g} s, and the alert is lost."
        return failure("url", f"{url} took {seconds:.1f} s.", advice)
    if response.status == HTTPStatus.ACCEPTED:
        return ok("url", f"{url} accepted a delivery within {seconds * 1000:.0f} ms, without a redirect.")
    if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
        advice = f"Give {source.TITLE} the URL of the redirect: it takes a redirect for success, and the alert is lost."
        return failure("url", says, advice)
    if response.status == HTTPStatus.UNAUTHORIZED:
        advice = (
            f"The web process has another {source.KINDS[0].variable} or ENCRYPTION_KEY, or the path names another "
            f"workspace: {secret.name} signed the sample."
        )
        return failure("url", says, advice)
    path = f"/webhooks/{source.NAME}"
    return failure("url", says, f"The path should be {path} or {path}/<workspace>; see the web process's log.")


def _send_sample(enqueue: Callable[[], str], redis: Redis) -> Iterator[Finding]:
    """Check that a sample becomes a stored event."""
    began = time.monotonic()
    try:
        canary_proof.await_proof(redis, enqueue(), timeout_seconds=_SAMPLE_TIMEOUT_SECONDS)
    except SignalCraftError as error:
        yield failure("sample", str(error), "See redis, postgresql and worker, above, and the worker's log.")
    else:
        yield ok("sample", f"Stored within {(time.monotonic() - began) * 1000:.0f} ms, and deleted again.")


def _diagnose(source: Source, body: bytes, signature: str, candidates: Sequence[Candidate]) -> None:
    found = source.diagnose(body, signature, candidates)
    click.echo(found.says)
    if found.advice:
        click.echo(found.advice)
    if found.verdict is not Verdict.GOOD:
        raise click.ClickException(f"the signature is not good: {found.verdict.value}.")


def _candidates(source: Source, extra: str, workspace: str | None) -> list[Candidate]:
    """Return the given secret, those of the environment and, if the database can be read, the stored ones.

    Those of other workspaces are among them, to name the one that signed the delivery.

    Raises:
        TenancyError: there is no such workspace.
    """
    default = os.environ.get("DEFAULT_WORKSPACE", "").strip() or "default"
    slug = workspace or default
    found = [_candidate("The given secret", extra.encode(), kind.name) for kind in source.KINDS if extra]
    found += [
        _candidate(
            f"{kind.variable}-{number}", value.encode(), kind.name, other_workspace="" if slug == default else default
        )
        for kind in source.KINDS
        if kind.variable
        for number, value in enumerate(comma_separated(os.environ.get(kind.variable, "")), start=1)
    ]
    return found + _stored_candidates(source, slug, must_exist=workspace is not None)


def _candidate(name: str, value: bytes, kind: str, *, retired: bool = False, other_workspace: str = "") -> Candidate:
    return Candidate(secret=Secret(name=name, kind=kind, value=value), retired=retired, other_workspace=other_workspace)


def _stored_candidates(source: Source, workspace: str, *, must_exist: bool) -> list[Candidate]:
    try:
        with database() as settings:
            opened = {slug: tenants.opened_secrets(slug, settings.encryption_keys) for slug in tenants.workspaces()}
    except (SignalCraftError, PeeweeException) as error:
        click.echo(f"Stored secrets were not tried: {error}", err=True)
        return []
    if must_exist and workspace not in opened:
        raise tenants.TenancyError(f"There is no workspace {workspace}.")
    undecryptable = [info.name for info, value in opened.get(workspace, ()) if value is None]
    if undecryptable:
        click.echo(f"Not tried, ENCRYPTION_KEY does not decrypt them: {', '.join(undecryptable)}.", err=True)
    return [
        _candidate(
            info.name,
            value,
            info.kind,
            retired=info.retired_at is not None,
            other_workspace="" if slug == workspace else slug,
        )
        for slug, found in opened.items()
        for info, value in found
        if value and info.source == source.NAME
    ]
