"""What did a provider find in a tenant's raw rows, and how were its tables stored?

One document. Only the provider knows its shape.
"""

from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, PROFILE, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade


def read(connection: Connection, schemas: Schemas) -> str | None:
    """The document, None when there is none yet."""
    upgrade(connection, schemas.staging, IN_STAGING)
    row = connection.execute(sql.SQL("select profile from {}").format(_place(schemas))).fetchone()
    return row[0] if row else None


def write(connection: Connection, schemas: Schemas, document: str) -> None:
    """Replace the stored document, in the caller's transaction or in one of its own."""
    with connection.transaction():
        connection.execute(sql.SQL("delete from {}").format(_place(schemas)))
        connection.execute(sql.SQL("insert into {} values (%s)").format(_place(schemas)), [document])


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, PROFILE)
