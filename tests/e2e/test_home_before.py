"""A HOME of an earlier version starts, keeps its data and syncs; wrongly guessed types are corrected."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo_commcare import MATERNAL
from explorer.postgres.embedded import EmbeddedPostgres
from tests.e2e.home_before import (
    FIRST_PHONES,
    FIRST_RETURNS,
    FIXTURES,
    KEY,
    LATER_PHONES,
    LATER_RETURNS,
    SECOND_PHONES,
    project_space,
    unpack,
)
from tests.e2e.stack import Stack, environment

# The first version kept guessed types of `contact` that its second sync contradicted; the later ones corrected them themselves.
# In the third one dbt built all tables, also those of one row per record; the last one is the version before.
GUESSED_WRONG, PUT_RIGHT, BUILT_BY_DBT, BEFORE = "c9b507b", "a3137b6", "c0bdc54", "3d0bb0d"

# What readers ask while the first sync runs: of a table that gets columns, and of one whose column gets another type.
READ = ("select count(*) from case_mother", "select count(water_sources) from case_household")


@dataclass
class Before:
    """The old installation under this version. `facts`: what was noted when it was packed; `kept`: rows of the catalog as it came
    up; `columns`: types, and `raw`: what identifies the loaded records, before the first sync; `described`: what
    `describe_table` said of the contacts after it; `read`: what readers were told while it ran."""

    stack: Stack
    facts: dict[str, Any]
    kept: dict[str, list[tuple[Any, ...]]]
    columns: dict[str, dict[str, str]]
    raw: dict[str, list[tuple[Any, ...]]]
    first_sync: dict[str, Any]
    described: dict[str, Any]
    read: dict[str, set[str]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The version before; with `--all-homes` the older ones too, which takes minutes for each."""
    if "before" in metafunc.fixturenames:
        every = [GUESSED_WRONG, PUT_RIGHT, BUILT_BY_DBT, BEFORE]
        wanted = every if metafunc.config.getoption("all_homes") else [BEFORE]
        metafunc.parametrize("before", wanted, indirect=True, scope="module")


@pytest.fixture(scope="module")
def before(request: pytest.FixtureRequest) -> Iterator[Before]:
    """The installation started and synced once."""
    parent = Path(tempfile.mkdtemp(prefix="explorer-before-"))
    # Started by root, the database server runs as another account, which has to pass through here.
    parent.chmod(0o711)
    home = parent / "home"
    facts = unpack(FIXTURES / f"home-{request.param}.tar.xz", home)
    kept = _before_the_start(home)
    with project_space(second=True) as server:
        stack = Stack(home, server, environment(home), token=facts["token"])
        try:
            stack.up()
            columns, raw = _columns(stack), _raw_rows(stack)
            with ThreadPoolExecutor(1) as pool:
                syncing = pool.submit(stack.cli, "sync", KEY, "--wait", "--json")
                read: dict[str, set[str]] = {query: set() for query in READ}
                while not syncing.done():
                    for query, answers in read.items():
                        answers.add(str(stack.rows(KEY, query)))
                first_sync = json.loads(syncing.result().stdout)
            described = stack.call("describe_table", tenant=KEY, table="case_contact")
            yield Before(stack, facts, kept, columns, raw, first_sync, described, read)
        finally:
            stack.cli("down", check=False)
            EmbeddedPostgres(home).remove_data()
            shutil.rmtree(parent)


def test_it_comes_up_with_its_data_tables_and_tokens(before: Before) -> None:
    stack, facts = before.stack, before.facts
    assert before.first_sync["state"] == "SUCCESS", before.first_sync
    tables = before.first_sync["tables"]
    grown = {}
    if facts["version"] != BEFORE:
        # It was a table, and is a view.
        del facts["tables"]["data_quality"]
        # The demo's project space has got a person with a location since.
        grown = {name: facts["tables"][name] + 1 for name in ("web_users", "user_locations")}
    assert {name: tables.get(name) for name in facts["tables"]} == facts["tables"] | grown
    assert set(before.columns) <= set(_columns(stack))

    # The old version made the token; through it the old rows equal those of the server.
    truth = {case["case_id"]: case["case_name"] for case in stack.demo.truth(MATERNAL).cases}
    assert dict(stack.rows(KEY, "select case_id, case_name from cases")) == truth
    forms = {form["id"] for form in stack.demo.truth(MATERNAL).forms}
    assert {row[0] for row in stack.rows(KEY, "select form_id from forms")} == forms
    listed = stack.call("list_tables", tenant=KEY, limit=50)
    assert listed["success"], listed


def test_cases_say_who_owns_them_after_the_first_sync_while_readers_read(before: Before) -> None:
    """The old version's tables did not. No reader was refused, or saw other rows."""
    assert "owner_name" not in before.columns["case_mother"]
    rows = "select count(*), count(owner_kind), count(owner_name), count(owner_location_path) from case_mother"
    [[mothers, kinds, names, places]] = before.stack.rows(KEY, rows)
    # One of the workers has no location.
    assert mothers == kinds == names == places + 1
    assert before.read[READ[0]] == {f"[[{mothers}]]"}


def test_several_choices_are_an_array_after_the_first_sync_while_readers_read(before: Before) -> None:
    """No reader was refused, or saw other answers; and each answer has a label in each language of the application."""
    stack, now = before.stack, _columns(before.stack)
    kinds = (before.columns["case_household"]["water_sources"], now["case_household"]["water_sources"])
    assert kinds == ("text", "ARRAY")
    assert "case_household.water_sources: text to choices" in before.first_sync["type_changes"]
    [[answered]] = stack.rows(KEY, READ[1])
    assert answered > 0
    assert before.read[READ[1]] == {f"[[{answered}]]"}
    assert "question_options" not in before.columns
    labelled = (
        "select o.language, count(distinct h.case_id), count(*) = count(distinct (h.case_id, o.value)) from case_household h"
        " join question_options o on o.table_name = 'case_household' and o.column_name = 'water_sources'"
        " and o.value = any(h.water_sources) group by 1 order by 1"
    )
    assert stack.rows(KEY, labelled) == [[language, answered, True] for language in ("default", "en", "fr", "hi")]


def test_the_catalog_secrets_and_what_dagster_remembers_stay(before: Before) -> None:
    """After migration and a sync: the same tenants, keys of partitions, schemas, credentials, tokens, sensors, runs."""
    found = _kept(before.stack.home, before.stack.admin)
    runs, before_runs = found.pop("runs"), before.kept.pop("runs")
    # The older versions had fewer.
    sensors, before_sensors = found.pop("sensors"), before.kept.pop("sensors")
    assert len(before_sensors) >= 2
    assert set(before_sensors) <= set(sensors)
    assert found == before.kept
    assert [KEY] == [key for key, *_ in found["tenants"]] == [key for _, key in found["partitions"]]
    assert set(before_runs) < set(runs)


def test_the_first_sync_reads_only_what_is_new(before: Before) -> None:
    """The server had nothing new: no loaded record was written again."""
    found = _raw_rows(before.stack)
    assert {table: found[table] for table in before.raw} == before.raw
    assert len(before.raw["raw_cases"]) == before.facts["tables"]["cases"]


def test_a_sync_without_news_builds_nothing_again(before: Before) -> None:
    tables = _mart_tables(before.stack)
    assert before.stack.sync(KEY)["status"] == "SUCCESS"
    assert _mart_tables(before.stack) == tables


def test_types_that_were_guessed_wrong_are_put_right_and_reported(before: Before) -> None:
    stack = before.stack
    wrong = before.facts["version"] == GUESSED_WRONG
    guessed = (before.columns["case_contact"]["phone"], before.columns["case_contact"]["back_on"])
    assert guessed == (("bigint", "date") if wrong else ("text", "text"))

    # The first sync found nothing new at the server and rebuilt them from loaded rows.
    assert _texts(stack, "phone") == sorted(FIRST_PHONES + SECOND_PHONES)
    assert _texts(stack, "back_on") == sorted(FIRST_RETURNS + LATER_RETURNS)
    columns = _columns(stack)["case_contact"]
    assert (columns["phone"], columns["back_on"]) == ("text", "text")
    assert columns["dose"] in ("numeric", "double precision")
    # The version before told them itself, in its second sync; that stays said until the tables are built again.
    told = ["back_on: date to text", "phone: integer to text"]
    assert _reported(before) in ([told] if wrong else [[]] if before.facts["version"] != BEFORE else [[], told])


def test_it_takes_up_what_is_new(before: Before) -> None:
    stack, control = before.stack, before.stack.demo.control
    case_id = control.create_case(MATERNAL, "visitor", "New under this version", {"room": "Ward A"})
    control.create_case(MATERNAL, "contact", "From abroad", {"phone": LATER_PHONES[0]})
    run = stack.sync(KEY)
    assert run["status"] == "SUCCESS", run
    assert stack.rows(KEY, "select case_id, room from case_visitor") == [[case_id, "Ward A"]]
    assert _texts(stack, "phone") == sorted(FIRST_PHONES + SECOND_PHONES + LATER_PHONES)
    assert stack.rows(KEY, "select count(*), min(dose)::float8 from case_contact where dose is not null") == [[30, 2.5]]


def test_everything_can_be_read_again(before: Before) -> None:
    """A full refresh brings the same tables; records that the server deleted meanwhile are removed."""
    stack = before.stack
    counts = "select (select count(*) from cases), (select count(*) from forms), (select count(*) from form_cases)"
    known = stack.rows(KEY, counts)
    run = stack.sync(KEY, full_refresh=True)
    assert run["status"] == "SUCCESS", run
    assert stack.rows(KEY, counts) == known
    truth = {case["case_id"]: case["case_name"] for case in stack.demo.truth(MATERNAL).cases}
    assert dict(stack.rows(KEY, "select case_id, case_name from cases")) == truth


def test_idle_it_is_stopped_politely(before: Before) -> None:
    down = json.loads(before.stack.cli("down", "--json").stdout)
    assert down == {"stopped": ["supervisor"], "database_recovers": False}


def _reported(before: Before) -> list[str]:
    """Type changes of the contacts from `describe_table`; the answer to the sync must have the same."""
    changes = [re.sub("bigint", "integer", change) for change in before.described["data"].get("type_changes", [])]
    told = {change.removeprefix("case_contact.") for change in before.first_sync["type_changes"]}
    assert set(before.described["data"].get("type_changes", [])) <= told
    return sorted(match[0] for change in changes for match in re.finditer(r"\w+: \w+ to text", change))


def _before_the_start(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The stored state of the old version, read only from its database."""
    server = EmbeddedPostgres(home, fsync=False)
    server.start()
    try:
        return _kept(home, Stack(home, None, {}).admin)  # type: ignore[arg-type]
    finally:
        server.stop()


_TENANTS = "SELECT key, id, provider, server, display_name, status, created_at FROM catalog.tenants"
_SCHEMAS = "SELECT tenant_id, prefix, state FROM catalog.schemas"
_SECRETS = (
    "SELECT c.tenant_id, c.kind, c.ciphertext, s.passwords FROM catalog.credentials c"
    " JOIN catalog.schemas s USING (tenant_id)"
)
_TOKENS = (
    "SELECT p.name, t.token_hash, t.expires_at, t.revoked_at, g.tenant_id, g.scopes FROM catalog.principals p"
    " JOIN catalog.tokens t ON t.principal_id = p.id JOIN catalog.grants g ON g.principal_id = p.id"
)
_PARTITIONS = "SELECT partitions_def_name, partition FROM dynamic_partitions"
_SENSORS = "SELECT selector_id, status FROM instigators ORDER BY 1"


def _kept(home: Path, connect: "Callable[..., psycopg.Connection[Any]]") -> dict[str, list[tuple[Any, ...]]]:
    """Everything that an operator made or a client uses in any version; `runs`: ids of Dagster's runs."""
    record = json.loads((home / "connection.json").read_text())
    files = [(name, (home / name).read_text()) for name in ("secret.keys", "webserver.token")]
    found: dict[str, list[tuple[Any, ...]]] = {"files": files, "logins": sorted(record["roles"].items())}
    with connect() as conn:
        for name, sql in {"tenants": _TENANTS, "schemas": _SCHEMAS, "secrets": _SECRETS, "tokens": _TOKENS}.items():
            found[name] = conn.execute(sql).fetchall()
    with connect("dagster") as conn:
        found["partitions"] = conn.execute(_PARTITIONS).fetchall()
        found["sensors"] = conn.execute(_SENSORS).fetchall()
        found["runs"] = conn.execute("SELECT run_id FROM runs").fetchall()
    return found


def _raw_rows(stack: Stack) -> dict[str, list[tuple[Any, ...]]]:
    """Place and transaction of every loaded case and form; they change when a row is written again."""
    with stack.admin() as conn:
        (prefix,) = conn.execute("SELECT prefix FROM catalog.schemas").fetchone() or ("",)
        return {
            table: conn.execute(f"SELECT ctid::text, xmin::text FROM {prefix}_raw.{table} ORDER BY ctid").fetchall()
            for table in ("raw_cases", "raw_forms")
        }


def _mart_tables(stack: Stack) -> list[tuple[Any, ...]]:
    """Name and oid of every table that agents see; a rebuilt table has another oid."""
    with stack.admin() as conn:
        return conn.execute(
            "SELECT relname, oid, relfilenode FROM pg_class WHERE relkind = 'r' AND relname <> 'data_quality'"
            " AND relnamespace::regnamespace::text ~ '^t_[0-9a-f]{8}_marts$' ORDER BY 1"
        ).fetchall()


def _texts(stack: Stack, column: str) -> list[str]:
    rows = stack.rows(KEY, f"select {column} from case_contact where {column} is not null")
    return sorted(str(value) for (value,) in rows)


def _columns(stack: Stack) -> dict[str, dict[str, str]]:
    """The database's types by table and column."""
    with stack.admin() as conn:
        return _columns_of(conn)


def _columns_of(conn: "psycopg.Connection[Any]") -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    rows = conn.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema ~ '^t_[0-9a-f]{8}_marts$'"
    ).fetchall()
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found
