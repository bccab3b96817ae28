"""What did each of dbt's tests find when it last ran, and what did it see then?"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, TESTS, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade


class TestRecord(msgspec.Struct, frozen=True):
    """`status`: pass, warn, fail or error; `rows`: number of failing rows, None where they could not be counted; `saw`: the
    version of the test, and of the rows of all that it reads."""

    __test__ = False

    status: str
    rows: int | None
    message: str | None
    saw: Mapping[str, str]


def read(connection: Connection, schemas: Schemas) -> dict[str, TestRecord]:
    """The record of each test, by its name."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL("select name, status, rows, message, saw from {}").format(_place(schemas))
    return {name: TestRecord(*of) for name, *of in connection.execute(query)}


def write(connection: Connection, schemas: Schemas, records: Mapping[str, TestRecord], kept: Collection[str]) -> None:
    """Store the records of tests that ran; forget all but these and the `kept` ones."""
    rows: list[tuple[Any, ...]] = [
        (name, of.status, of.rows, of.message, msgspec.json.encode(of.saw).decode()) for name, of in records.items()
    ]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("delete from {} where name <> all(%s)").format(_place(schemas)), [list({*records, *kept})]
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} (name, status, rows, message, saw) values (%s, %s, %s, %s, %s) on conflict (name) do update"
                " set status = excluded.status, rows = excluded.rows, message = excluded.message, saw = excluded.saw"
            ).format(_place(schemas)),
            rows,
        )


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, TESTS)
