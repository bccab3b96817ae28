"""What happens to tables and models whose source is gone? They stay for a while, marked as retired, and are then dropped.

The comment says since when one is retired and until when it stays; nothing else is stored. One whose source comes back is built
again with a normal comment.
"""

from collections.abc import Collection, Iterator
from datetime import date

import psycopg
from psycopg import sql

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.materializations import RetiredTable
from explorer.contract.retirement import Retirement, comment_before, comment_of, retired_since, retirement_of
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.postgres.relations import Relation, relations


def retire(
    connection: Connection, schemas: TenantSchemas, current: Collection[str], *, today: date
) -> list[RetiredTable]:
    """Mark tables that were built and are not `current`, and drop what was marked, models too, when its time is over.

    A table that a view reads is never dropped. One in use is left to the next run.
    """
    retired = []
    for relation, known in _without_source(connection, schemas, current):
        since, until = known or mark(connection, schemas, relation, retired_since(today), "the source is gone")
        if today <= until or not _drop(connection, schemas, relation):
            retired.append(RetiredTable(name=relation.name, since=since.isoformat(), dropped_after=until.isoformat()))
    return retired


def is_due(connection: Connection, schemas: TenantSchemas, current: Collection[str], *, today: date) -> bool:
    """Whether `retire` would mark or drop something."""
    found = _without_source(connection, schemas, current)
    return any(known is None or today > known.dropped_after for _, known in found)


def _without_source(
    connection: Connection, schemas: TenantSchemas, current: Collection[str]
) -> Iterator[tuple[Relation, Retirement | None]]:
    """What is retired, and the tables that were built, are not `current` and are not retired yet."""
    built = {name for name, build in build_records.read(connection, schemas).items() if build.kind == "table"}
    for relation in relations(connection, [schemas.staging, schemas.marts]):
        known = retirement_of(relation.comment)
        is_table = relation.schema == schemas.marts and relation.kind == "table"
        if not (is_table and relation.name in current) and (known or (is_table and relation.name in built)):
            yield relation, known


def mark(
    connection: Connection, schemas: TenantSchemas, relation: Relation, retirement: Retirement, why: str
) -> Retirement:
    """Mark a table or view as retired. Returns the retirement."""
    with connection.transaction():
        _describe(connection, relation, comment_of(retirement, relation.kind, why, relation.comment))
        # If its source comes back, no change of that time is applied to rows of today.
        build_records.build_as_a_whole(connection, schemas, [relation.name])
    return retirement


def unmark(connection: Connection, relation: Relation) -> None:
    """Give a retired one the comment back that it had."""
    _describe(connection, relation, comment_before(relation.comment))


def _describe(connection: Connection, relation: Relation, comment: str) -> None:
    connection.execute(sql.SQL("comment on {} is {}").format(_place(relation), sql.Literal(comment)))


def _drop(connection: Connection, schemas: TenantSchemas, relation: Relation) -> bool:
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = '1s'")
            connection.execute(sql.SQL("drop {}").format(_place(relation)))
            build_records.forget(connection, schemas, [relation.name])
    except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.LockNotAvailable):
        return False
    return True


def _place(relation: Relation) -> sql.Composed:
    return sql.SQL(f"{relation.kind} {{}}").format(sql.Identifier(relation.schema, relation.name))
