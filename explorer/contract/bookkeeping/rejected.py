"""Which records came and could not be stored, and why? A raw table of its own, made when there is one."""

from typing import NamedTuple

from psycopg import errors, sql

from explorer.contract.bookkeeping.definitions import REJECTED, Connection, Schemas

TABLE = REJECTED
KEY = "rejected_id"
COLUMNS = (KEY, "resource", "reason", "record_start")
"""Texts, beside what every raw table has."""


class Rejected(NamedTuple):
    """Records of one source that could not be stored, and the most frequent reason."""

    records: int
    reason: str


def read(connection: Connection, schemas: Schemas) -> dict[str, Rejected]:
    """By source; over a connection in autocommit mode that need not write."""
    query = sql.SQL("select resource, count(*), mode() within group (order by reason) from {} group by 1")
    try:
        rows = connection.execute(query.format(sql.Identifier(schemas.raw, TABLE)))
        return {resource: Rejected(count, reason) for resource, count, reason in rows}
    except errors.UndefinedTable:
        return {}
