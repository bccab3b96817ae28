"""Tables with applied changes equal fully rebuilt ones in rows, counts and findings; readers see no half state."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from explorer.marts.builds import begin
from explorer.marts.changes import gathered
from explorer.marts.changes.applying import apply_changes
from explorer.marts.changes.pool import open_pool
from explorer.marts.dbt.parsing import write_manifest
from explorer.marts.dbt.results import NodeResult
from explorer.marts.models import models_of
from explorer.marts.planning import Plan, plan
from explorer.marts.project import TenantProject
from explorer.marts.refresh import refresh
from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.tables.unfit_values import count_unfit_values
from tests.explorer.workshop import DBT_PROJECT, RAW_TABLES, Workshop

XMLNS = ("http://openrosa.org/formdesigner/visit", "http://openrosa.org/formdesigner/it's a \"survey\" /*'form_id'*/")
CASE_TYPES = ("child", "pregnancy")
STATIC = ("cases", "forms", "form_cases", "form_activity", "case_activity")


def structure() -> Structure:
    questions = (
        Question(("age",), label="Age", type="Int"),
        Question(("sex",), label="Sex", type="Select", options=(Option("f", "Female"), Option("m", "Male"))),
        Question(("child",), label="Child", type="Repeat", is_group=True),
        Question(("child", "name"), label="Name", type="Text", repeat=("child",)),
        Question(("child", "dose"), label="Dose", type="Repeat", repeat=("child",), is_group=True),
        Question(("child", "dose", "given"), label="Given", type="Date", repeat=("child", "dose")),
    )
    forms = tuple(
        Form(xmlns, {"en": title}, title, "a", "App", "Module", "child", questions)
        for xmlns, title in zip(XMLNS, ("Visit", "Survey"), strict=True)
    )
    return Structure((), tuple(CaseType(name, ("age", "note"), ("a",)) for name in CASE_TYPES), forms)


@dataclass
class Tables:
    """A tenant's tables and the ways to change what they are made from."""

    workshop: Workshop
    static: dict[str, Any]
    fallbacks: dict[str, str] = field(default_factory=dict)

    def plan(self) -> tuple[TenantProject, Plan]:
        project = self.workshop.prepare(structure())
        with self.connect() as connection:
            return project, plan(connection, project, models_of(project, self.static))

    def refresh(self, *, by_need: bool = True) -> tuple[Plan, list[NodeResult]]:
        project, planned = self.plan()
        with self.connect() as connection:
            results = refresh(
                connection, project, planned, planned.models, by_need=by_need,
                database=self.workshop.tenant.rw, on_result=lambda _: None,
                on_fallback=self.fallbacks.__setitem__,
            )  # fmt: skip
        assert [r.name for r in results if r.resource_type == "model" and r.status != "success"] == []
        return planned, results

    def all(self) -> dict[str, Any]:
        """Everything that is known of the tables: rows, how many, values that do not fit, what tests found."""
        project, planned = self.plan()
        assert planned.stale == frozenset()
        names = (*STATIC, *(table.name for table in project.tables))
        query = "select coalesce(jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text), '[]') from {} t"
        rows = {name: self.workshop.read(query.format(name))[0][0] for name in names}
        assert {name: planned.rows[name] for name in names} == {name: len(found) for name, found in rows.items()}
        findings = {name: sorted((f.test, f.status, f.rows) for f in each) for name, each in planned.findings.items()}
        with self.connect() as connection:
            unfit_values = count_unfit_values(connection, project.schemas, project.tables)
        return {"rows": rows, "findings": {n: f for n, f in findings.items() if f}, "unfit_values": unfit_values}

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return self.workshop.tenant.rw.connect(autocommit=True)

    def execute(self, statement: str, *values: Any) -> None:
        """`raw.` and `marts.` stand for the tenant's schemas."""
        names = self.workshop.tenant.names
        for layer in ("raw", "marts"):
            statement = statement.replace(f"{layer}.", f"{names.schema(layer)}.")
        with self.connect() as connection:
            connection.execute(statement, values)

    def put_case(self, chosen: random.Random, case_id: str, kind: str = "") -> None:
        kind = kind or chosen.choice(CASE_TYPES)
        parent = {"parent": {"case_id": chosen.choice(["c1", "c2", "gone"]), "case_type": "child"}}
        record = {
            "case_id": case_id, "case_type": kind, "case_name": f"{case_id}'s", "closed": False,
            "properties": {"age": chosen.choice(["7", ""]), "note": f"words {chosen.random()}"},
            "indices": parent if case_id in ("c0", "c4") else chosen.choice([parent, {}]),
        }  # fmt: skip
        self._put("raw_cases", "case_id", case_id, record, case_type=kind)

    def put_form(self, chosen: random.Random, form_id: str) -> None:
        children = [
            {
                "name": f"n{n}", "case": {"@case_id": f"c{chosen.randrange(12)}", "create": {"case_type": "child"}},
                "dose": [
                    {"given": "2024-02-02", "g": {"case": [{"@case_id": f"c{chosen.randrange(12)}"}, {"@case_id": "c1"}]}}
                ] * chosen.randrange(3),
            }
            for n in range(chosen.randrange(4))
        ]  # fmt: skip
        form = {
            "#type": "data", "@xmlns": chosen.choice(XMLNS), "@name": "N", "age": "1",
            "sex": chosen.choice("fmx"), "child": children, "case": {"@case_id": f"c{chosen.randrange(12)}"},
        }  # fmt: skip
        record = {"id": form_id, "form": form, "metadata": {"userID": f"u{chosen.randrange(2)}"}}
        day = chosen.choice(["2024-01-01T08:30:00Z", "2024-01-02T23:59:59-05:00", "2024-02-01T00:00:00Z", None])
        self._put("raw_forms", "form_id", form_id, record, received_on=day)

    def edit(self, chosen: random.Random) -> None:
        """One change as a load makes it: a record that came, changed (its type, too), went or came back."""
        table, key, letter, put = chosen.choice(
            [("raw_cases", "case_id", "c", self.put_case), ("raw_forms", "form_id", "f", self.put_form)]
        )
        identity = f"{letter}{chosen.randrange(12)}"
        if chosen.random() < 0.25:
            self.execute(f"update raw.{table} set _deleted_at = clock_timestamp() where {key} = %s", identity)
        else:
            put(chosen, identity)

    def _put(self, table: str, key: str, identity: str, record: dict[str, Any], **keys: Any) -> None:
        row = {key: identity, **keys, "record": Jsonb(record)}
        columns = sql.SQL(", ").join(map(sql.Identifier, row))
        places = sql.SQL(", ").join(sql.Placeholder() * len(row))
        query = sql.SQL(
            "insert into {table} ({columns}, _loaded_at) values ({places}, clock_timestamp()) on conflict ({key}) do update"
            " set ({columns}, _loaded_at, _deleted_at) = ({places}, clock_timestamp(), null)"
        ).format(
            table=sql.Identifier(self.workshop.tenant.names.schema("raw"), table),
            columns=columns,
            places=places,
            key=sql.Identifier(key),
        )
        with self.connect() as connection:
            connection.execute(query, [*row.values(), *row.values()])


@pytest.fixture(scope="module")
def tables(make_workshop: Callable[[], Workshop], tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Built as a whole, with at least one row, repetition and value that does not fit everywhere."""
    folder: Path = tmp_path_factory.mktemp("static") / "target"
    write_manifest(DBT_PROJECT, folder)
    made = Tables(make_workshop(), json.loads((folder / "manifest.json").read_bytes()))
    made.workshop.make_raw(*RAW_TABLES)
    made.workshop.add("raw_users", {"id": "u1", "username": "amina"}, user_id="u1", username="amina", is_active=True)
    chosen = random.Random(0)
    for number in range(8):
        made.put_case(chosen, f"c{number}", CASE_TYPES[number // 4])
        made.put_form(chosen, f"f{number}")
    made.refresh()
    return made


@pytest.fixture(autouse=True)
def in_step(tables: Tables) -> None:
    tables.refresh()


@pytest.mark.parametrize("seed", range(2))
def test_changes_give_what_a_whole_build_gives(tables: Tables, seed: int) -> None:
    """Without dbt: over several runs rows came, changed, moved to another type or form, lost repetitions, went and came back."""
    chosen = random.Random(seed)
    for _ in range(4):
        for _ in range(chosen.randrange(1, 8)):
            tables.edit(chosen)
        planned, results = tables.refresh()
        assert {name for name in planned.stale if planned.models[name].kind != "view"} == planned.changes.keys()
        assert not any(result.sql for result in results)
        keys = {name: change.key for name, change in planned.changes.items()}
        assert keys.get("form_activity", "day") == "day"
        assert keys.get("form_cases", "form_id") == "form_id"
    changed = tables.all()
    assert changed["findings"]
    assert_blocks_stand_in_their_repetitions(tables.workshop)
    assert changed["unfit_values"]
    tables.refresh(by_need=False)
    assert tables.all() == changed


def assert_blocks_stand_in_their_repetitions(workshop: Workshop) -> None:
    for repeat, path in (("child", "child/case"), ("dose", "child/dose/g/case")):
        own = " union all ".join(
            f"select repeat_id, {'case_id' if repeat == 'child' else 'null'} from {form}__{repeat}"
            for form in ("form_visit", "form_survey")
        )
        of_blocks = workshop.read(
            f"select repeat_id, case_id from form_cases where path = '{path}' order by 1, block_index"
        )
        rows = workshop.read(own)
        assert {repeat_id for repeat_id, _ in of_blocks} == {repeat_id for repeat_id, _ in rows} != set()
        if repeat == "child":
            assert sorted(of_blocks) == sorted(rows)


def test_no_index_has_a_name_that_postgres_made_up(tables: Tables) -> None:
    """It cuts them: nested repeats of a form with a long name, built at the same time, would get the same."""
    schema = tables.workshop.tenant.names.schema("marts")
    with tables.workshop.connections.admin.connect() as connection:
        query = "select indexname, indexdef from pg_indexes where schemaname = %s"
        names = connection.execute(query, [schema]).fetchall()
    assert any("WHERE (unfit_columns IS NOT NULL)" in definition for _, definition in names)
    assert [name for name, _ in names if not re.fullmatch("[0-9a-f]{32}", name)] == []


def test_a_run_killed_in_between_is_made_good(tables: Tables) -> None:
    """Of a case that changed its type the new one is known already, the old one nowhere but in the table it must leave."""
    tables.execute("update raw.raw_cases set case_type = 'child', record = jsonb_set(record, '{case_type}', '\"child\"'),"
                   " _loaded_at = clock_timestamp(), _deleted_at = null where case_id = 'c3'")  # fmt: skip
    tables.refresh()
    tables.execute("update raw.raw_cases set case_type = 'pregnancy', record = jsonb_set(record, '{case_type}', '\"pregnancy\"'),"
                   " _loaded_at = clock_timestamp() where case_id = 'c3'")  # fmt: skip
    project, planned = tables.plan()
    assert {"cases", "case_child", "case_pregnancy"} <= planned.changes.keys()
    with tables.connect() as connection, open_pool(tables.workshop.tenant.rw) as pool:
        begin(connection, project, planned.stale)
        cases = {"cases": planned.changes["cases"]}
        first = next(iter(apply_changes(connection, pool, project, cases, tables.fallbacks.__setitem__)))
    assert first.name == "cases"
    tables.refresh()
    assert tables.workshop.read("select 1 from case_child where case_id = 'c3'") == []
    healed = tables.all()
    tables.refresh(by_need=False)
    assert tables.all() == healed


def test_a_table_that_cannot_take_up_changes_is_built_in_the_same_run(tables: Tables) -> None:
    tables.execute("alter table marts.case_child drop column note")
    tables.put_case(random.Random(1), "c1")
    tables.execute("update raw.raw_cases set case_type = 'child', _deleted_at = null where case_id = 'c1'")
    planned, results = tables.refresh()
    assert "case_child" in planned.changes
    assert [result.name for result in results if result.sql and result.resource_type == "model"] == ["case_child"]
    assert tables.workshop.read("select note is not null from case_child where case_id = 'c1'") == [(True,)]
    assert list(tables.fallbacks) == ["case_child"]
    assert 'column "note"' in tables.fallbacks["case_child"] or "more expressions" in tables.fallbacks["case_child"]


def test_records_set_aside_are_told_though_nothing_else_changed(tables: Tables) -> None:
    tables.execute(
        "create table raw.raw_rejected (rejected_id text primary key, resource text, reason text, record_start text,"
        " _run_id text, _loaded_at timestamptz, _page bigint, _content_hash text, _deleted_at timestamptz)"
    )
    tables.refresh()
    assert tables.workshop.read("select count(*) from data_quality where check_name = 'rejected'") == [(0,)]
    tables.execute(
        "insert into raw.raw_rejected (rejected_id, resource, reason, record_start, _run_id, _loaded_at, _page, _content_hash)"
        " values ('r1', 'cases', 'a number is beyond what Postgres can hold', '{', 'run', clock_timestamp(), 1, 'x')"
    )
    planned, _ = tables.refresh()
    assert planned.stale == {"data_quality"} == planned.changes.keys()
    assert tables.workshop.read(
        "select table_name, rows_found from data_quality where check_name = 'rejected' and rows_found > 0"
    ) == [("raw_cases", 1)]
    assert tables.refresh()[0].stale == frozenset()


def test_much_that_changed_is_built_as_a_whole(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "FEW", 0)
    tables.execute("update raw.raw_cases set _loaded_at = clock_timestamp()")
    planned, results = tables.refresh()
    assert planned.stale >= {"cases", "case_child", "case_pregnancy"}
    assert not planned.changes.keys() & {"cases", "case_child", "case_pregnancy"}
    assert {"cases", "case_child", "case_pregnancy"} <= {result.name for result in results if result.sql}


@pytest.fixture
def reader(tables: Tables) -> Iterator[list[tuple[Any, ...]]]:
    """What somebody sees who asks again and again: of a table whose rows all say the same, how many rows and how many sayings."""
    seen: list[tuple[Any, ...]] = []
    done = threading.Event()

    def read() -> None:
        with tables.workshop.tenant.ro.connect(autocommit=True) as connection:
            while not done.is_set():
                query = "select count(*), count(distinct note), min(note) from case_child"
                seen.extend(connection.execute(query).fetchall())

    tables.execute(
        "update raw.raw_cases set _loaded_at = clock_timestamp(), record = jsonb_set(record, '{properties,note}', '\"note 0\"')"
    )
    tables.refresh()
    thread = threading.Thread(target=read)
    thread.start()
    yield seen
    done.set()
    thread.join()


def test_readers_see_before_or_after_and_hold_nobody_up(tables: Tables, reader: list[tuple[Any, ...]]) -> None:
    [(count,)] = tables.workshop.read("select count(*) from case_child")
    with tables.workshop.tenant.ro.connect() as still_open:
        # On a busy machine three refreshes take longer than a reader's transaction may.
        if still_open.info.server_version >= 170000:
            still_open.execute("set transaction_timeout = 0")
        still_open.execute("set idle_in_transaction_session_timeout = 0")
        still_open.execute("set transaction isolation level repeatable read")
        before = still_open.execute("select min(note) from case_child").fetchall()
        for number in range(1, 4):
            tables.execute(
                "update raw.raw_cases set _loaded_at = clock_timestamp(),"
                " record = jsonb_set(record, '{properties,note}', to_jsonb(%s::text))",
                f"note {number}",
            )
            planned, _ = tables.refresh()
            assert "case_child" in planned.changes
        assert still_open.execute("select min(note) from case_child").fetchall() == before == [("note 0",)]
    assert tables.workshop.read("select distinct note from case_child") == [("note 3",)]
    assert {(rows, sayings) for rows, sayings, _ in reader} == {(count, 1)}
    assert {note for *_, note in reader} > {"note 0"}
