"""``docs/sentry.md`` is generated from the code."""

from dataclasses import fields
from pathlib import Path

from signalcraft.dev import docs
from signalcraft.domain.alerts import NormalizedAlert
from signalcraft.sources import sentry
from signalcraft.sources.sentry import deliveries, status_changes
from signalcraft.sources.sentry.reference import FAMILIES, OUTCOMES, TREATMENT
from signalcraft.sources.sentry.signature import Family
from tests.support import ROOT

PAGE = ROOT / "docs" / "sentry.md"


def test_the_page_is_generated_from_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == sentry.reference(), "make docs"


def test_write_writes_the_page_once(tmp_path: Path) -> None:
    page = sentry.reference()
    path = tmp_path / "sentry.md"
    assert docs.write({path: page}) == [path]
    assert path.read_text() == sentry.reference()
    assert docs.write({path: page}) == [], "nothing changed"


def test_every_field_of_an_alert_is_explained_in_its_order() -> None:
    assert list(TREATMENT) == [field.name for field in fields(NormalizedAlert)]


def test_every_family_and_every_outcome_is_explained() -> None:
    assert set(FAMILIES) == set(Family)
    assert set(OUTCOMES) | {status_changes.of_issue} == set(deliveries.DISPATCH.values())
