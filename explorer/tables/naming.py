"""How are tables and columns named? At most 63 bytes of ASCII, and permanently.

A column is named by the whole path of its question, so that a new question never renames an old one. A thing keeps its name,
even if its source is renamed or another one would like the name.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from explorer.tables.identifiers import unique_identifiers
from explorer.tables.memory import TableMemory

# dbt builds a table under its name plus 12 bytes; a longer name would be cut and could collide.
TABLE_MAX_BYTES = 51
# Keys of columns that are derived from a question's column: file URL, options, parts of a place.
DERIVED = "\0"


_GROUP_SEPARATOR = "__"


def kept_names(keys: Iterable[tuple[str, str]], before: Mapping[str, str], taken: Collection[str]) -> dict[str, str]:
    """The names that keys already have, whatever name they would get now."""
    kept: dict[str, str] = {}
    used = set(taken)
    for key, _ in keys:
        name = before.get(key, "")
        if name and name not in used:
            kept[key] = name
            used.add(name)
    return kept


def table_names(
    wishes: Sequence[tuple[str, str]],
    memories: Mapping[str, TableMemory],
    taken: Collection[str],
    reserved: Collection[str],
    *,
    prefix: str = "",
) -> dict[str, str]:
    """`reserved`: names of other tables, including those whose source is gone."""
    kept = kept_names(wishes, {key: memory.name for key, memory in memories.items()}, taken)
    new = unique_identifiers(
        (pair for pair in wishes if pair[0] not in kept),
        taken={*taken, *reserved, *kept.values()},
        max_bytes=TABLE_MAX_BYTES,
        spelt=lambda key: prefix + key,
    )
    names = {key: kept.get(key) or new[key] for key, _ in wishes}
    for key, wish in wishes:
        memories[key].take(wish, names[key])
    return names


def column_names(wishes: Sequence[tuple[str, str]], memory: TableMemory, taken: Collection[str]) -> dict[str, str]:
    """`wishes`: key and wanted name.

    Questions choose before the columns derived from them, so that a new option never renames a question's column. A name that
    was ever given is not given again.
    """
    given = {key: name for key, (_, name) in memory.names.items()}
    names = kept_names(wishes, given, taken)
    for derived in (False, True):
        new = [(key, wish) for key, wish in wishes if key not in names and (DERIVED in key) == derived]
        names |= unique_identifiers(
            new,
            taken={*taken, *given.values(), *names.values()},
            spelt=lambda key: key.replace("/", _GROUP_SEPARATOR),
        )
    memory.names |= {key: (wish, names[key]) for key, wish in wishes}
    return names
