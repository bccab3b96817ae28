"""From which columns is each column of a table computed?"""

import re
from collections.abc import Iterator, Mapping

from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.tables.values import UNFIT, ColumnSpec, TableSpec

FORMAT = 3
"""Version of the stored lineage. Change it when the same table yields more than before."""
_READ = re.compile(r"\b(\w+) (?:->>|#>>) '\{?([^'}]+)\}?'")


def lineage_of_table(table: TableSpec) -> dict[str, ColumnLineage]:
    """Lineage of all columns of a table, from the columns of the relation that has its records."""
    found: dict[str, tuple[Origin, ...]] = {}
    for column in table.columns:
        found[column.name] = tuple(sorted(set(_origins(table, column, found))))
    return {name: ColumnLineage(origins) for name, origins in found.items()}


def _origins(table: TableSpec, column: ColumnSpec, before: Mapping[str, tuple[Origin, ...]]) -> Iterator[Origin]:
    relation, document = table.rows.relation, table.document
    if column.origins:
        yield from column.origins
    elif relation is not None and column.path is not None:
        yield Origin(relation, column.document or document, column.path)
        if column.reads_attachments:
            yield Origin(relation, "attachments")
    elif column.value:
        words = set(re.findall(r"\w+", column.value))
        yield from (origin for name, origins in before.items() if name in words for origin in origins)
    elif relation is None:
        return
    elif column.reads is not None:
        yield Origin(relation, document, column.reads)
    elif column.name == UNFIT:
        yield Origin(relation, document)
    elif column.text:
        yield from (Origin(relation, name, tuple(keys.split(","))) for name, keys in _READ.findall(column.text))
    else:
        yield Origin(relation, column.name)
