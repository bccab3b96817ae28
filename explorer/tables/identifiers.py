"""Which Postgres name does a thing get whose name comes from outside? For tables, columns and schemas.

Names are readable, lower snake case, ASCII, at most 63 bytes, never reserved. They depend only on the text and, where two texts
would get the same name, on the colliding texts. `sql_text` does quoting and literals.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

from text_unidecode import unidecode

MAX_BYTES = 63
_HASH_CHARS = 8
_NOT_WORD = re.compile(r"[^a-z0-9]+")

# Words that PostgreSQL (15 to 18) rejects as a bare column or table name, and names of its system columns.
# fmt: off
RESERVED = frozenset((
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary", "both",
    "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create", "cross",
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp",
    "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "false", "fetch",
    "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike", "in", "initially", "inner",
    "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left", "like", "limit", "localtime",
    "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only", "or", "order", "outer", "overlaps",
    "placing", "primary", "references", "returning", "right", "select", "session_user", "similar", "some",
    "symmetric", "system_user", "table", "tablesample", "then", "to", "trailing", "true", "union", "unique", "user",
    "using", "variadic", "verbose", "when", "where", "window", "with", "cmax", "cmin", "ctid", "tableoid", "xmax",
    "xmin",
))
# fmt: on


def identifier(*parts: str, prefix: str = "", max_bytes: int = MAX_BYTES) -> str:
    """The name of `parts` after `prefix` (a valid start of a name, such as `case_`); several parts are joined by `__`.

    A part without letters or digits is named by its hash. A name that is too long keeps the start of its last part, the most
    specific one, and gets a hash of all parts, so that texts with equal starts stay apart.
    """
    name = prefix + "__".join(_words(part) or f"x_{short_hash(part)}" for part in parts)
    if not name[0].isalpha() or name.startswith("pg_"):
        name = f"x_{name}"
    if name in RESERVED:
        name = f"{name}_"
    if len(name) <= max_bytes:
        return name
    return _cut(identifier(parts[-1], prefix=prefix, max_bytes=10_000), "/".join((prefix, *parts)), max_bytes)


def unique_identifiers(
    names: Iterable[tuple[str, str]],
    *,
    taken: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    spelt: Callable[[str], str] = str,
) -> dict[str, str]:
    """Key to name, for pairs of a unique key and its wanted name (made by `identifier`).

    A key gets its wanted name if no other key wants it and it is not in `taken`. Of keys with the same wish, the one whose
    spelling equals the wish gets it, and all others get a hash of their key: no name passes from one key to another unnoticed.
    `spelt`: spelling of a key, where wishes have more parts than keys, such as a prefix.
    """
    wishes = dict(names)
    held = Counter(wishes.values())
    result: dict[str, str] = {}
    for key, wish in wishes.items():
        alone = held[wish] == 1 or spelt(key) == wish
        result[key] = wish if alone and wish not in taken else _cut(wish, key, max_bytes)
    return _without_accidents(result, taken, max_bytes)


def short_hash(text: str) -> str:
    """Eight hex digits that represent `text` in names."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]


@lru_cache(10_000)
def _words(text: str) -> str:
    return _NOT_WORD.sub("_", unidecode(_without_surrogates(text)).lower()).strip("_")


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _cut(name: str, key: str, max_bytes: int) -> str:
    return f"{name[: max_bytes - _HASH_CHARS - 1].rstrip('_')}_{short_hash(key)}"


def _without_accidents(names: dict[str, str], taken: Collection[str], max_bytes: int) -> dict[str, str]:
    """Longer hashes for keys whose hashed name collides with another name."""
    used: set[str] = set(taken)
    result: dict[str, str] = {}
    for key in sorted(names):
        name, salt = names[key], 0
        while name in used:
            salt += 1
            name = _cut(names[key], f"{key}\x00{salt}", max_bytes)
        used.add(name)
        result[key] = name
    return {key: result[key] for key in names}
