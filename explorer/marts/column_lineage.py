"""From which columns is each column of a tenant's models computed? Kept by `contract.bookkeeping.lineage`.

Of static models their SQL tells (`sql_lineage`), of generated ones the columns they are generated from. Lineage reaches from
tables over marts and staging views down to the raw tables, one step at a time; within JSON it names the path.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg

from explorer.contract.bookkeeping import lineage
from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage, Origin
from explorer.contract.schemas import TenantSchemas
from explorer.tables.generate import GeneratedTable
from explorer.tables.model_files import GeneratedColumn

Connection = psycopg.Connection[tuple[Any, ...]]

# Of what is kept; another one when the same SQL tells more than before.
FORMAT = 2
_READ = re.compile(r"\b(form|metadata) (?:->>|#>>) '\{?([^'}]+)\}?'")
_POSITIONS = frozenset({"repeat_id", "repeat_index", "parent_index", "parent_repeat_id"})


def of_generated(table: GeneratedTable) -> dict[str, ColumnLineage]:
    """All columns of a generated table, from columns of the marts `cases` or `forms`."""
    found: dict[str, tuple[Origin, ...]] = {}
    for column in table.columns:
        found[column.name] = tuple(sorted(set(_origins(table, column, found))))
    return {name: ColumnLineage(origins) for name, origins in found.items()}


def _origins(
    table: GeneratedTable, column: GeneratedColumn, before: Mapping[str, tuple[Origin, ...]]
) -> Iterator[Origin]:
    mart, document = ("cases", "properties") if table.kind == "case_type" else ("forms", "form")
    if column.path is not None:
        yield Origin(mart, column.document or document, column.path)
        if column.reads_attachments:
            yield Origin(mart, "attachments")
    elif column.reads is not None:
        yield Origin(mart, document, column.reads)
    elif column.name == "unfit_columns":
        yield Origin(mart, document)
    elif column.name in _POSITIONS and table.kind == "repeat":
        yield Origin(mart, document, tuple(table.source.rpartition(" ")[2].split("/")))
        if column.name.endswith("_id"):
            yield Origin(mart, "form_id")
    elif column.text:
        yield from (Origin(mart, name, tuple(keys.split(","))) for name, keys in _READ.findall(column.text))
    elif column.value:
        words = set(re.findall(r"\w+", column.value))
        yield from (origin for name, origins in before.items() if name in words for origin in origins)
    else:
        yield Origin(mart, column.name)


def write(
    connection: Connection, schemas: TenantSchemas, static: Lineage, tables: Iterable[GeneratedTable], *, version: str
) -> None:
    """Keep the lineage of static models and generated tables, unless it was made from the same `version` before."""

    def whole() -> Lineage:
        return static | {table.name: of_generated(table) for table in tables}

    lineage.write(connection, schemas, whole, version=f"{FORMAT} {version}")
