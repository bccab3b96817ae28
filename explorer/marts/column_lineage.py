"""From which columns is each column of a tenant's models computed? Kept by `contract.bookkeeping.lineage`.

Of static models their SQL tells (`sql_lineage`), of generated ones the columns they are generated from. Lineage reaches from
tables over marts and staging views down to the raw tables, one step at a time; within JSON it names the path.
"""

from collections.abc import Iterable
from typing import Any

import psycopg

from explorer.contract.bookkeeping import lineage
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.schemas import TenantSchemas
from explorer.tables.lineage import lineage_of_table
from explorer.tables.values import TableSpec

Connection = psycopg.Connection[tuple[Any, ...]]

# Of what is kept; another one when the same SQL tells more than before.
FORMAT = 2


def write(
    connection: Connection, schemas: TenantSchemas, static: Lineage, tables: Iterable[TableSpec], *, version: str
) -> None:
    """Keep the lineage of static models and generated tables, unless it was made from the same `version` before."""

    def whole() -> Lineage:
        return static | {table.name: lineage_of_table(table) for table in tables}

    lineage.write(connection, schemas, whole, version=f"{FORMAT} {version}")
