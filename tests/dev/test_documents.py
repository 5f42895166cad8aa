"""What the documents say of tests and files is there, and no table says a thing twice."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = {path.stem: path.read_text() for path in ROOT.glob("tests/**/*.py")}
TESTS = {*SOURCES, *re.findall(r"def (test_\w+)\(", "\n".join(SOURCES.values()))}
#: Tables in which each row is about something else.
LISTS = ("SECURITY.md", "docs/reliability.md", "docs/decisions/README.md")
document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@document
def test_each_test_and_file_that_it_names_is_there(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"`(test_\w+)`", text)) - TESTS == set()
    files = set(re.findall(r"`((?:tests|bench|docs|migrations)/[\w/.-]+)`", text))
    assert {name for name in files if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("name", LISTS)
def test_no_list_has_two_rows_of_one_name(name: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", (ROOT / name).read_text(), re.MULTILINE):
        rows = Counter(row.split("|")[1].strip() for row in table.splitlines()[2:])
        assert [row for row, number in rows.items() if number > 1] == []
