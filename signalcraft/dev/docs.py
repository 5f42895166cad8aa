"""Write the generated documents: ``python -m signalcraft.dev.docs``, or ``make docs``."""

import sys
from pathlib import Path

from signalcraft.dev import metrics_docs, settings_docs
from signalcraft.dev.local_stack import ROOT
from signalcraft.sources import SOURCES


def documents() -> dict[Path, str]:
    """Return the text of every generated document by path."""
    references = {ROOT / "docs" / f"{source.NAME}.md": source.reference() for source in SOURCES.values()}
    return settings_docs.documents() | metrics_docs.documents() | references


def write(texts: dict[Path, str]) -> list[Path]:
    """Write the documents that differ; return their paths."""
    changed = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        path.write_text(texts[path])
    return changed


if __name__ == "__main__":
    for path in write(documents()):
        sys.stdout.write(f"wrote {path.name}\n")
