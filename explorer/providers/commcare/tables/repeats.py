"""Which repeat groups have tables? The model form_cases reads them from the tenant's bookkeeping.

The positions that a case block has in arrays are those of repetitions, or only of blocks in a list: the data alone do not tell,
since one repetition arrives as an object.
"""

import hashlib
from collections.abc import Iterable

from explorer.contract.bookkeeping.repeats import RepeatGroup
from explorer.core.jsonb import storable
from explorer.providers.commcare.tables.paths import path_of
from explorer.tables.values import TableSpec


def groups_of(tables: Iterable[TableSpec]) -> list[RepeatGroup]:
    """xmlns and path, as PostgreSQL can hold them: the loader repairs records in the same way."""
    sources = (table.source.rpartition(" ") for table in tables if table.kind == "repeat" and table.part == 1)
    return sorted((storable(xmlns), tuple(storable(path_of(key)))) for xmlns, _, key in sources)


def digest(tables: Iterable[TableSpec]) -> bytes:
    """Another one for other repeat groups: what is made from them must then be made anew."""
    return hashlib.sha256(repr(groups_of(tables)).encode()).digest()
