"""The kind email: mails, and every way in which a server may not take them."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from signalcraft.domain.errors import InvalidSetting
from signalcraft.notify.contract import Outcome, OutcomeKind
from tests.notify.receivers.conftest import receiver_of
from tests.support import mail_server
from tests.support.mail_server import MailServer
from tests.support.messages import HOSTILE, digest_message, every_form, group_message, own_test_message

LOGIN = "ann:smtp-pass%2Fword@"
#: Of this machine, but no name that is known to be: as a server elsewhere.
ELSEWHERE = "127.0.0.2"


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server.serving() as serving:
        yield serving


def send(url: str, reason: str = "opened", **fields: object) -> Outcome:
    return receiver_of("email", url).send(group_message(reason, **fields))


def part(mail: EmailMessage, subtype: str) -> str:
    body = mail.get_body((subtype,))
    assert body is not None
    return str(body.get_content())


@pytest.mark.parametrize("form", every_form())
def test_the_text_and_the_html_say_the_same(mail: MailServer, form: str) -> None:
    message = every_form()[form]
    receiver_of("email", mail.url).send(message)
    (got,) = mail.mails

    assert mail.recipients == [["ops@example.org", "ann@example.org"]]
    assert (got["From"], got["To"]) == ("SignalCraft <alerts@example.org>", "ops@example.org, ann@example.org")
    assert [each.get_content_type() for each in got.iter_parts()] == ["text/plain", "text/html"]  # the last is the best
    for text in (message.text, *(value for _, value in message.facts), *filter(None, (message.url, message.link))):
        assert text in part(got, "plain")
        assert text in part(got, "html")


def test_mails_about_a_group_are_one_thread(mail: MailServer) -> None:
    for reason, status in (("opened", "open"), ("acked", "ack"), ("resolved", "resolved")):
        send(mail.url, reason, status=status)
    send(mail.url, id=42)
    *same, other = mail.mails

    assert len({got["References"] for got in same}) == len({got["Subject"] for got in same}) == 1
    assert other["References"] != same[0]["References"]
    assert all(got["In-Reply-To"] == got["References"] for got in mail.mails)


def test_an_attempt_has_the_message_id_of_the_last(mail: MailServer) -> None:
    mail.replies.append(("DATA", "drop"))
    outcomes = [send(mail.url, minute=minute).kind for minute in (7, 8)]
    first, second = mail.mails

    assert outcomes == [OutcomeKind.UNKNOWN, OutcomeKind.SENT]
    assert first["Message-ID"] == second["Message-ID"] == "<ntf_7_1772366400.signalcraft@example.org>"
    assert first["Date"] != second["Date"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_makes_a_header_a_tag_or_a_recipient(mail: MailServer, text: str) -> None:
    hostile = {"title": text, "project": text, "environment": text, "assignee_user_id": text}
    receiver_of("email", mail.url).send(group_message(**hostile))
    receiver_of("email", mail.url).send(digest_message(3, **hostile))
    plain = receiver_of("email", mail.url).send(group_message())

    assert plain.kind is OutcomeKind.SENT
    expected = set(mail.mails[-1].keys())
    for got in mail.mails:
        assert set(got.keys()) == expected
        assert len(got["Subject"]) <= 200
        assert got["Subject"].isprintable() or text in (HOSTILE["right to left"], HOSTILE["headers"])
        assert "\n" not in got["Subject"]
        assert all(len(line) <= 998 for line in got.as_bytes().splitlines())
        assert not any(mark in part(got, "html") for mark in ("<script", "<img", "\x00", "\x1b"))
        assert "\x00" not in part(got, "plain")
    assert {tuple(each) for each in mail.recipients} == {("ops@example.org", "ann@example.org")}


def test_a_subject_of_any_script_arrives_whole(mail: MailServer) -> None:
    title = "Ошибка оплаты: 支払いエラー \U0001f4a9 " + "ü" * 120
    send(mail.url, title=title)

    assert mail.mails[0]["Subject"] == f"[payments prod] {title}"


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (("MAIL", "451 later"), OutcomeKind.RETRY, "smtp_451"),
        (("MAIL", "550 not you"), OutcomeKind.BROKEN, "smtp_550"),
        (("DATA", "452 full"), OutcomeKind.RETRY, "smtp_452"),
        (("DATA", "421 going down"), OutcomeKind.RETRY, "smtp_421"),
        (("DATA", "554 looks like spam"), OutcomeKind.REFUSED, "smtp_554"),
        (("DATA", "drop"), OutcomeKind.UNKNOWN, "connection_lost"),
        (("MAIL", "drop"), OutcomeKind.UNKNOWN, "connection_lost"),
        (("QUIT", "451 no"), OutcomeKind.SENT, "smtp_250"),
        (("QUIT", "hang"), OutcomeKind.SENT, "smtp_250"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_each_reply_has_its_outcome(mail: MailServer, reply: tuple[str, str], kind: OutcomeKind, code: str) -> None:
    mail.replies.append(reply)
    outcome = send(mail.url)

    assert (outcome.kind, outcome.code) == (kind, code)
    assert send(mail.url).kind is OutcomeKind.SENT


@pytest.mark.parametrize(
    ("replies", "kind", "code"),
    [
        (("450 later", "250 OK"), OutcomeKind.SENT, "smtp_450"),
        (("550 unknown", "250 OK"), OutcomeKind.SENT, "smtp_550"),
        (("450 later", "550 unknown"), OutcomeKind.RETRY, "smtp_450"),
        (("550 unknown", "550 unknown"), OutcomeKind.BROKEN, "smtp_550"),
    ],
)
def test_a_mail_is_sent_if_one_address_takes_it_and_says_which_did_not(
    mail: MailServer, replies: tuple[str, str], kind: OutcomeKind, code: str
) -> None:
    mail.replies.extend(("RCPT", reply) for reply in replies)
    outcome = send(mail.url)

    words = {"450": "delayed (450)", "550": "refused (550)"}
    addresses = zip(("ops@example.org", "ann@example.org"), (words.get(reply[:3]) for reply in replies), strict=True)
    assert (outcome.kind, outcome.code) == (kind, code)
    assert outcome.detail == ", ".join(f"{address} {word}" for address, word in addresses if word)


def only_to(url: str, *addresses: str) -> Outcome:
    return receiver_of("email", url).send(replace(group_message(), only_to=addresses))


def test_an_address_that_was_delayed_gets_the_mail_alone_and_the_same(mail: MailServer) -> None:
    mail.replies += [("RCPT", "250 OK"), ("RCPT", "450 later")]
    first = send(mail.url)
    only_to(mail.url, *first.undelivered)

    assert (first.undelivered, first.refused) == (["ann@example.org"], [])
    assert mail.recipients == [["ops@example.org"], ["ann@example.org"]]
    assert len({(got["Message-ID"], got["To"]) for got in mail.mails}) == 1


def test_an_address_that_refuses_in_the_end_does_not_make_the_receiver_broken(mail: MailServer) -> None:
    mail.replies.append(("RCPT", "550 unknown"))
    assert only_to(mail.url, "ann@example.org").kind is OutcomeKind.REFUSED


def test_an_address_that_is_no_longer_configured_is_not_tried(mail: MailServer) -> None:
    assert only_to(mail.url, "bob@example.org").kind is OutcomeKind.SENT
    assert mail.raw == []


@contextmanager
def saying(*lines: bytes) -> Iterator[int]:
    """A server that says ``lines``, one for each that it reads, and then nothing."""

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as commands:
                    for line in lines:
                        connection.sendall(line)
                        commands.readline()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("lines", "kind", "code"),
    [
        ((b"554 go away\r\n",), OutcomeKind.BROKEN, "smtp_554"),
        ((b"421 too many\r\n",), OutcomeKind.RETRY, "smtp_421"),
        ((b"220 hello\r\n", b"500 no\r\n", b"500 no\r\n"), OutcomeKind.BROKEN, "smtp_500"),
        ((b"220 hello\r\n", b"250-x\r\n250 AUTH PLAIN\r\n", b"454 later\r\n"), OutcomeKind.RETRY, "smtp_454"),
        ((b"220 hello\r\n", b"250-x\r\n250 AUTH GSSAPI\r\n"), OutcomeKind.BROKEN, "auth"),
        ((b"220 hello\r\n", b"250 x\r\n"), OutcomeKind.BROKEN, "not_supported"),
        ((b"",), OutcomeKind.RETRY, "connect"),
    ],
)
def test_a_connection_that_fails_refuses_no_mail(lines: tuple[bytes, ...], kind: OutcomeKind, code: str) -> None:
    with saying(*lines) as port:
        outcome = send(f"smtp://{LOGIN}127.0.0.1:{port}")

    assert (outcome.kind, outcome.code) == (kind, code)


def test_a_server_that_is_away_is_tried_again() -> None:
    refused = send("smtp://127.0.0.1:1")
    nowhere = send("smtp://nowhere.invalid")

    assert (refused.kind, refused.code) == (OutcomeKind.RETRY, "connect")
    assert (nowhere.kind, nowhere.code) == (OutcomeKind.RETRY, "dns")


def test_a_login_is_used_and_a_wrong_one_is_broken() -> None:
    with mail_server.serving(auth=True) as mail:
        right = receiver_of("email", mail.url.replace("//", f"//{LOGIN}"))
        wrong = receiver_of("email", mail.url.replace("//", "//ann:smtp-pass@"))
        outcomes = [right.send(group_message()), wrong.send(group_message())]

        assert [(each.kind, each.code) for each in outcomes] == [
            (OutcomeKind.SENT, "smtp_250"),
            (OutcomeKind.BROKEN, "auth"),
        ]
        assert list(right.check()) == []
        assert list(wrong.check()) == [
            "The SMTP server does not take the connection or the login (auth): check its URL."
        ]
        assert len(mail.mails) == 1


def test_nothing_is_sent_in_the_clear_to_another_machine() -> None:
    with mail_server.serving(host=ELSEWHERE) as mail:
        outcome = send(mail.url.replace("//", f"//{LOGIN}"))

        assert (outcome.kind, outcome.code) == (OutcomeKind.BROKEN, "not_supported")
        assert (mail.logins, mail.raw) == ([], [])


def test_a_certificate_that_nobody_trusts_is_not_trusted(tmp_path: Path) -> None:
    context = mail_server.self_signed(tmp_path, ELSEWHERE)
    with mail_server.serving(host=ELSEWHERE, tls_context=context) as mail:
        outcome = send(mail.url)

        assert (outcome.kind, outcome.code, mail.raw) == (OutcomeKind.RETRY, "tls", [])


def test_mail_to_another_machine_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = mail_server.self_signed(tmp_path, ELSEWHERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with mail_server.serving(host=ELSEWHERE, tls_context=context) as mail:
        outcome = send(mail.url)

        assert (outcome.kind, mail.encrypted, len(mail.raw)) == (OutcomeKind.SENT, [True], 1)


@pytest.mark.parametrize(
    "address", ["", "ops", "@", "a@", "a b@c.de", "<a@b.de>", "a@b.de, c@d.de", "a@b\\r\\nBcc: c@d"]
)
def test_what_is_no_address_is_refused_by_its_key(address: str) -> None:
    for options, place in ({"to": f'["{address}"]'}, r"to\.0"), ({"from": f'"{address}"'}, "from"):
        with pytest.raises(InvalidSetting, match=rf"receivers\.ops\.{place}: must be an e-mail address"):
            receiver_of("email", "smtp://localhost", **options)


def test_an_address_of_an_international_domain_is_written_in_ascii(mail: MailServer) -> None:
    receiver_of("email", mail.url, to='["ops@bücher.example"]').send(own_test_message())

    assert mail.recipients == [["ops@xn--bcher-kva.example"]]


def test_60_mails_an_hour_are_the_default() -> None:
    assert receiver_of("email", "smtp://localhost").per_hour == 60
    assert receiver_of("email", "smtp://localhost", per_hour="5").per_hour == 5


@pytest.mark.parametrize(
    "make", [lambda port: f"http://127.0.0.1:{port}", lambda _: "smtp://", lambda _: "mail.example"]
)
def test_a_server_that_is_no_smtp_url_is_refused(make: Callable[[int], str]) -> None:
    with pytest.raises(InvalidSetting, match=r"receivers\.ops\.smtp: must be a URL like smtp://"):
        receiver_of("email", make(25))
