"""Makes JSON values storable in jsonb: PostgreSQL accepts neither NUL characters nor lone surrogates."""

import json
import math
import re
from typing import Any

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def storable(value: Any) -> Any:
    """`value` with every unstorable character, also in keys, replaced by U+FFFD. Tuples and sets become lists, numbers that are
    not finite None."""
    if isinstance(value, str):
        return _UNSTORABLE.sub(_REPLACEMENT, value)
    if isinstance(value, dict):
        return {_UNSTORABLE.sub(_REPLACEMENT, str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((storable(item) for item in value), key=str)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def canonical(value: Any) -> bytes:
    """The canonical text of a storable value, for content hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
