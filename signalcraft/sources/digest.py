"""A digest of values, for ids and fingerprints that are made of several."""

import hashlib
import json


def digest(value: object) -> str:
    """Return the SHA-256 of ``value`` as JSON, in hex; the order of an object's names does not matter."""
    # JSON is an unambiguous encoding; as ASCII it can also encode a lone surrogate.
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
