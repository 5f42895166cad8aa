"""The style sheet, the script and the icon: named by what is in them, so that browsers keep them for good."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from flask import Response
from flask.typing import ResponseReturnValue

from signalcraft.domain.errors import NotFound

_STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final[Mapping[str, str]] = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def asset_url(name: str) -> str:
    """Return the path of the file ``name``, with a hash of its content."""
    return f"/assets/{_hashed_names()[name]}"


def release() -> str:
    """Return a hash of all files: pages of another release differ from ours."""
    return hashlib.sha256("".join(_hashed_names().values()).encode()).hexdigest()[:8]


def show_asset(name: str) -> ResponseReturnValue:
    """Return a file by its hashed name.

    Raises:
        NotFound: there is none of this name, or its content was another.
    """
    found = next((path for path, hashed in _paths().items() if hashed == name), None)
    if found is None:
        raise NotFound
    response = Response(found.read_bytes(), mimetype=_TYPES[found.suffix])
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


@cache
def _paths() -> Mapping[Path, str]:
    paths = sorted(path for path in _STATIC.iterdir() if path.suffix in _TYPES)
    return {path: f"{path.stem}.{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}{path.suffix}" for path in paths}


@cache
def _hashed_names() -> Mapping[str, str]:
    return {path.name: hashed for path, hashed in _paths().items()}
