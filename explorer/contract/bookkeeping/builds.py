"""What was each model built from, when, and what did its tests find?"""

from collections.abc import Collection, Mapping

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import BUILDS, IN_STAGING, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade


class Finding(msgspec.Struct, frozen=True):
    """A test that did not pass in its last run. `status`, `message`: from dbt; `rows`: number of failing rows."""

    test: str
    status: str
    rows: int | None
    message: str | None


class Build(msgspec.Struct, frozen=True):
    """The last build of a model. `definition`: hash of the model's definition; `versions`: time of each raw table's latest
    change at that moment; `relation`: oid of the relation; `rows`: None for views."""

    definition: str
    versions: Mapping[str, str]
    relation: int
    rows: int | None
    findings: tuple[Finding, ...]


def read(connection: Connection, schemas: Schemas) -> dict[str, Build]:
    """The last build of each model, by its name."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL("select model, definition, versions, relation::bigint, row_count, findings from {}")
    return {
        name: Build(definition, versions, relation, rows, msgspec.convert(findings, tuple[Finding, ...]))
        for name, definition, versions, relation, rows, findings in connection.execute(query.format(_place(schemas)))
    }


def forget(connection: Connection, schemas: Schemas, models: Collection[str]) -> None:
    """Delete the builds of these models."""
    query = sql.SQL("delete from {} where model = any(%s)").format(_place(schemas))
    connection.execute(query, [list(models)])


def write(connection: Connection, schemas: Schemas, builds: Mapping[str, Build], current: Collection[str]) -> None:
    """Store these builds and delete those of models that are not `current`. A build of the same relation keeps its time."""
    place = _place(schemas)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where model <> all(%s)").format(place), [list(current)])
        cursor.executemany(
            sql.SQL(
                "insert into {} as b (model, definition, versions, relation, row_count, findings)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (model) do update set definition = excluded.definition,"
                " versions = excluded.versions, relation = excluded.relation, row_count = excluded.row_count,"
                " findings = excluded.findings,"
                " built_at = case when b.relation = excluded.relation then b.built_at else now() end"
            ).format(place),
            [(name, *_row(build)) for name, build in builds.items()],
        )


def _row(build: Build) -> tuple[object, ...]:
    versions, findings = (msgspec.json.encode(value).decode() for value in (build.versions, build.findings))
    return build.definition, versions, build.relation, build.rows, findings


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, BUILDS)
