"""Which records could not be stored, and why? A raw table of its own, made with the first load."""

from typing import NamedTuple

from psycopg import errors, sql

from explorer.contract.bookkeeping.definitions import REJECTED, Connection, Schemas

TABLE = REJECTED
KEY = "rejected_id"
COLUMNS = (KEY, "resource", "reason", "record_start")
"""Text columns, in addition to those of every raw table."""


class Rejected(NamedTuple):
    """Records of one source that could not be stored, and the most frequent reason."""

    records: int
    reason: str


def read(connection: Connection, schemas: Schemas) -> dict[str, Rejected]:
    """Source to its rejected records. The connection is in autocommit mode and needs no right to write."""
    query = sql.SQL("select resource, count(*), mode() within group (order by reason) from {} group by 1")
    try:
        rows = connection.execute(query.format(sql.Identifier(schemas.raw, TABLE)))
        return {resource: Rejected(count, reason) for resource, count, reason in rows}
    except errors.UndefinedTable:
        return {}
