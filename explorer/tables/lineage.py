"""From which columns is each column of a generated table computed?"""

import re
from collections.abc import Iterator, Mapping

from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.tables.values import UNFIT, ColumnSpec, TableSpec

_READ = re.compile(r"\b(\w+) (?:->>|#>>) '\{?([^'}]+)\}?'")


def lineage_of_table(table: TableSpec) -> dict[str, ColumnLineage]:
    """Lineage of all columns of a generated table, from the columns of its mart."""
    found: dict[str, tuple[Origin, ...]] = {}
    for column in table.columns:
        found[column.name] = tuple(sorted(set(_origins(table, column, found))))
    return {name: ColumnLineage(origins) for name, origins in found.items()}


def _origins(table: TableSpec, column: ColumnSpec, before: Mapping[str, tuple[Origin, ...]]) -> Iterator[Origin]:
    mart, document = table.mart, table.document
    if column.path is not None:
        yield Origin(mart, column.document or document, column.path)
        if column.reads_attachments:
            yield Origin(mart, "attachments")
    elif column.reads is not None:
        yield Origin(mart, document, column.reads)
    elif column.name == UNFIT:
        yield Origin(mart, document)
    elif column.origins:
        yield from column.origins
    elif column.text:
        yield from (Origin(mart, name, tuple(keys.split(","))) for name, keys in _READ.findall(column.text))
    elif column.value:
        words = set(re.findall(r"\w+", column.value))
        yield from (origin for name, origins in before.items() if name in words for origin in origins)
    else:
        yield Origin(mart, column.name)
