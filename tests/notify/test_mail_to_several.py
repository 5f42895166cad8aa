"""A mail to several addresses, of which some take it later or never."""

from collections.abc import Iterator

import pytest

from signalcraft.notify import queries
from signalcraft.notify.contract import Receiver
from signalcraft.storage.database import database, session
from tests.notify.receivers.conftest import receiver_of
from tests.notify.test_notifier import alert, notifier, resolve
from tests.support import mail_server
from tests.support.builders import record
from tests.support.mail_server import MailServer

pytestmark = pytest.mark.usefixtures("redis")

OPS, ANN = "ops@example.org", "ann@example.org"
TAKES, DELAYS, REFUSES = ("RCPT", "250 OK"), ("RCPT", "450 later"), ("RCPT", "550 unknown")


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server.serving() as serving:
        yield serving


@pytest.fixture
def ops(mail: MailServer) -> Receiver:
    """Mails to ``OPS`` and ``ANN``."""
    return receiver_of("email", mail.url)


def states() -> list[tuple[str, str]]:
    with session():
        return database.execute_sql("SELECT reason, state FROM notification ORDER BY id").fetchall()  # type: ignore[no-any-return]


def last_error() -> str | None:
    with session():
        (row,) = queries.receivers()
        return row["last_error_code"]  # type: ignore[no-any-return]


def run(ops: Receiver) -> None:
    """Run a notifier that tries once."""
    running = notifier(ops)
    running._route()
    running._deliveries["ops"].run_once()


def test_who_took_a_mail_gets_it_once_and_who_was_delayed_gets_it_later(mail: MailServer, ops: Receiver) -> None:
    mail.replies += [TAKES, DELAYS, DELAYS]
    record(alert())
    run(ops)
    assert states() == [("opened", "pending")]
    run(ops)
    notifier(ops).run_until_idle()

    assert mail.recipients == [[OPS], [ANN]]
    assert len({got["Message-ID"] for got in mail.mails}) == 1
    assert (states(), last_error()) == ([("opened", "sent")], "smtp_450")


def test_an_address_that_refuses_is_not_tried_again_and_is_named(mail: MailServer, ops: Receiver) -> None:
    mail.replies += [REFUSES, TAKES]
    record(alert())
    notifier(ops).run_until_idle()
    notifier(ops).run_until_idle()

    assert (mail.recipients, states(), last_error()) == ([[ANN]], [("opened", "sent")], "smtp_550")
    with session():
        (attempt,) = queries.with_attempts([{"id": 1}])[0]["attempts"]
    assert (attempt["outcome"], attempt["detail"]) == ("sent", f"{OPS} refused (550)")


def test_an_address_that_refuses_after_it_was_delayed_leaves_the_mail_sent(mail: MailServer, ops: Receiver) -> None:
    mail.replies += [TAKES, DELAYS, REFUSES]
    record(alert())
    run(ops)
    notifier(ops).run_until_idle()

    assert (mail.recipients, states(), last_error()) == ([[OPS]], [("opened", "sent")], "smtp_550")


def test_a_group_that_ends_meanwhile_is_told_as_over_to_all(mail: MailServer, ops: Receiver) -> None:
    mail.replies += [TAKES, DELAYS]
    record(alert())
    run(ops)
    resolve()
    notifier(ops).run_until_idle()

    assert mail.recipients == [[OPS], [OPS, ANN]]
    assert states() == [("opened", "sent"), ("resolved", "sent")]


def test_an_end_that_some_have_is_told_to_the_others(mail: MailServer, ops: Receiver) -> None:
    record(alert())
    notifier(ops).run_until_idle()
    resolve()
    mail.replies += [TAKES, DELAYS]
    run(ops)
    notifier(ops).run_until_idle()

    assert mail.recipients == [[OPS, ANN], [OPS], [ANN]]


def test_an_address_that_is_delayed_for_a_day_is_given_up_and_gets_the_mail_by_retry(
    mail: MailServer, ops: Receiver
) -> None:
    mail.replies += [TAKES, DELAYS, DELAYS]
    record(alert())
    run(ops)
    with session():
        database.execute_sql("UPDATE notification SET created_at = created_at - interval '25 hours'")
    run(ops)
    assert states() == [("opened", "given_up")]
    with session():
        queries.retry(None)
    notifier(ops).run_until_idle()

    assert (mail.recipients, states()) == ([[OPS], [ANN]], [("opened", "sent")])
