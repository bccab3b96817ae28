"""The tables of a HOME that dbt built are, cell by cell, what the engine of tables makes of the same records."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection, Login
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.tables.engine import update
from explorer.tables.values import TableSpec
from tests.e2e.home_before import FIXTURES, unpack

PLANNER = CommCareTables()
MODELS = {"case_activity", "form_activity", "data_quality"}
NEW = {"owner_kind", "owner_name", "owner_location_path"}
"""Columns that `cases` and the tables of case types got since."""


@pytest.fixture(scope="module")
def login() -> Iterator[Login]:
    """The superuser of the old installation's database."""
    parent = Path(tempfile.mkdtemp(prefix="explorer-before-"))
    # Started by root, the database server runs as another account, which has to pass through here.
    parent.chmod(0o711)
    unpack(FIXTURES / "home-c0bdc54.tar.xz", parent / "home")
    server = EmbeddedPostgres(parent / "home", fsync=False)
    server.start()
    try:
        record = json.loads((parent / "home" / "connection.json").read_text())
        yield Login(record["host"], record["port"], "explorer", "postgres", record["password"])
    finally:
        server.stop()
        server.remove_data()
        shutil.rmtree(parent)


def test_no_cell_is_another_one(login: Login) -> None:
    with login.connect(autocommit=True) as connection:
        [(prefix, structure)] = connection.execute(
            "select prefix, structure from catalog.schemas join catalog.discovered using (tenant_id)"
        )
        schemas = TenantSchemas(prefix)
        connection.execute("create schema before")
        before = _columns(connection, schemas.marts)
        for name in before.keys() - MODELS:
            connection.execute(f'create table before."{name}" as table {schemas.marts}."{name}"'.encode())
        with connection.transaction():
            planned = PLANNER.plan_tables(structure, connection, schemas, taken=MODELS)
        updated = update(login, schemas, planned, PLANNER.changed_records, run_id="a run")
        assert list(updated.failures()) == []
        assert updated.tables.keys() - before.keys() == {"owners", "question_options"}
        assert before.keys() - updated.tables.keys() == MODELS
        now, arrays = _columns(connection, schemas.marts), list[tuple[str, str]]()
        for name in sorted(before.keys() - MODELS):
            table = updated.tables[name]
            # Properties of questions with several choices are arrays now.
            for column in [
                each for each, was in before[name].items() if (was[0], now[name][each][0]) == ("text", "text[]")
            ]:
                assert before[name].pop(column)[1] == now[name].pop(column)[1]
                arrays.append((name, column))
            assert {column: now[name][column] for column in before[name]} == before[name], name
            assert now[name].keys() - before[name].keys() <= {
                "unfit_columns",
                *(NEW if name.startswith("case") else ()),
            }, name
            assert _differing(connection, schemas, table, list(before[name])) == (0, 0), name
        told = {(change.table, change.column): (change.before, change.after) for change in updated.type_changes}
        assert told == dict.fromkeys(arrays, ("text", "choices"))
        assert arrays
        for name, column in arrays:
            query = (
                f"select count(*) filter (where array_to_string(n.{column}, ' ') is distinct from b.{column}),"
                f" count(n.{column}) > 0"
                f" from before.{name} b full join {schemas.marts}.{name} n using (case_id)"
            )
            assert connection.execute(query.encode()).fetchone() == (0, True), (name, column)


def _columns(connection: Connection, schema: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Table to its columns: type and comment."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    query = (
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum) from pg_class c"
        " join pg_attribute a on a.attrelid = c.oid where c.relnamespace = to_regnamespace(%s) and c.relkind = 'r'"
        " and a.attnum > 0 and not a.attisdropped"
    )
    for table, column, sql_type, comment in connection.execute(query, [schema]):
        found.setdefault(table, {})[column] = (sql_type, comment)
    return found


def _differing(connection: Connection, schemas: TenantSchemas, table: TableSpec, columns: list[str]) -> tuple[int, int]:
    """Number of rows that only the old table has, and that only the new one has."""
    named = ", ".join(f'"{column}"' for column in columns)
    old, new = (f'select {named} from {schema}."{table.name}"' for schema in ("before", schemas.marts))
    counts = [
        connection.execute(f"select count(*) from ({one} except all {other}) as lost".encode()).fetchone()
        for one, other in ((old, new), (new, old))
    ]
    return counts[0][0], counts[1][0]  # type: ignore[index]
