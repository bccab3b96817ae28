"""From which columns is each column of a tenant's models computed? Stored by `contract.bookkeeping.lineage`.

The lineage of static models comes from their SQL (`sql_lineage`), that of generated ones from their column specs. It leads from
marts and tables over staging views to the raw tables, one step at a time; within JSON it names the path.
"""

from collections.abc import Iterable

from explorer.contract.bookkeeping import lineage
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.lineage import lineage_of_table
from explorer.tables.values import TableSpec

# Version of the stored lineage. Change it when the same SQL yields more than before.
FORMAT = 2


def write(
    connection: Connection, schemas: TenantSchemas, static: Lineage, tables: Iterable[TableSpec], *, version: str
) -> None:
    """Store the lineage of static models and generated tables, unless it was computed from the same `version` before."""

    def whole() -> Lineage:
        return static | {table.name: lineage_of_table(table) for table in tables}

    lineage.write(connection, schemas, whole, version=f"{FORMAT} {version}")
