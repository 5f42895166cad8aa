"""``docs/sentry.md`` is what the code does."""

from dataclasses import fields
from pathlib import Path

from signalcraft.domain.alerts import NormalizedAlert
from signalcraft.sources import sentry
from signalcraft.sources.sentry import reference, status_changes
from signalcraft.sources.sentry.signature import Family

PAGE = Path(__file__).parents[1] / "docs" / "sentry.md"


def test_the_page_is_that_of_the_code() -> None:
    """``python -m signalcraft.sources.sentry.reference > docs/sentry.md`` renews it."""
    assert PAGE.read_text(encoding="utf-8") == reference.page()


def test_main_gives_out_the_page() -> None:
    written: list[str] = []
    reference.main(written.append)
    assert written == [reference.page()]


def test_every_field_of_an_alert_is_explained_in_its_order() -> None:
    assert list(reference.TREATMENT) == [field.name for field in fields(NormalizedAlert)]


def test_every_family_and_every_outcome_is_explained() -> None:
    assert set(reference.FAMILIES) == set(Family)
    assert set(reference.OUTCOMES) | {status_changes.of_issue} == set(sentry.DISPATCH.values())
