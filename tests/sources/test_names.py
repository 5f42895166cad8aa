"""The folder of a source is all that knows it: nothing outside of ``sources/<name>/`` and one line names it."""

import re
from pathlib import Path

import pytest

from signalcraft.sources import SOURCES
from tests.support import ROOT

PACKAGE = ROOT / "signalcraft"
OUTSIDE = [ROOT / name for name in ("app.py", "worker.py", "gunicorn.conf.py")]

#: What names a source all the same, with the reason why it cannot do otherwise.
EXCEPTIONS = {
    "signalcraft/sources/__init__.py": "the one line",
    "signalcraft/dev/metrics_docs.py": "names the folder of our dashboards, which a source has the name of",
    "signalcraft/dev/mock_sentry.py": "a mock that others import for their tests: testing-with-sentry.md",
    "signalcraft/resilience.py": "imports typing.Generic",
    "signalcraft/sources/sentry/samples/events.py": "a type of events has the name of a source",
    "signalcraft/sources/sentry/samples/issues.py": "likewise",
    "signalcraft/web/openapi_words.py": "the published description of the API needs examples, and names of headers",
    "signalcraft/web/openapi_examples.py": "likewise: the example of a delivery",
}


def names(source: str) -> re.Pattern[str]:
    """Return what finds the name of a source in code and in words, but not inside another word."""
    return re.compile(rf"(?<![A-Za-z])({source}|{SOURCES[source].TITLE})(?![a-z])", re.IGNORECASE)


def files(source: str) -> list[Path]:
    own = PACKAGE / "sources" / source
    return [path for path in (*PACKAGE.rglob("*.py"), *OUTSIDE) if own not in path.parents]


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_outside_of_its_folder_names_a_source(source: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files(source)
        if str(path.relative_to(ROOT)) not in EXCEPTIONS
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if names(source).search(line)
    }
    assert not found, "\n".join(sorted(found))


def test_every_exception_is_still_one() -> None:
    for name in EXCEPTIONS:
        text = (ROOT / name).read_text()
        assert any(names(source).search(text) for source in SOURCES), name
