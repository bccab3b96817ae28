"""The lineage of columns: read from the SQL of static models, and for generated tables equal to that of their SQL."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage, Origin, read
from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import Settings
from explorer.marts import column_lineage
from explorer.marts.manifest import static_lineage
from explorer.marts.sql_lineage import lineage_of
from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import CaseTypeProfile, Profile
from explorer.tables.lineage import lineage_of_table
from explorer.tables.values import TableSpec
from tests.explorer.workshop import Workshop

MODELS = Path(__file__).parents[3] / "dbt_project" / "models" / "commcare"
CHOICES = (Option("y", "Yes"), Option("metadata", "form #>> '{case}'"))
QUESTIONS = (
    Question(("pain",), "Pain?", "Select", {}, CHOICES),
    Question(("signs",), "Signs", "MSelect", {}, CHOICES),
    Question(("g", "born"), "Born", "Date"),
    Question(("place",), "Place", "Geopoint"),
    Question(("photo",), "Photo", "Image"),
    Question(("member",), "Member", "Repeat", is_group=True),
    Question(("member", "name"), "Name", "Text", repeat=("member",)),
    Question(("member", "doses"), "Doses", "Repeat", repeat=("member",), is_group=True),
    Question(("member", "doses", "given"), "Given", "Int", repeat=("member", "doses")),
)
FORM = Form("http://x/ a'b", {"en": "Visit"}, "Visit", "a", "App", "Module", "child", QUESTIONS)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """Of the project's own models, made once for the module."""
    return static_lineage(Settings(_env_file=None, home=tmp_path_factory.mktemp("home")), "commcare")


@pytest.fixture(scope="module")
def tables() -> list[TableSpec]:
    profile = Profile()
    profile.case_types["child"] = CaseTypeProfile(indices={"parent", "it's"})
    structure = Structure((), (CaseType("child", ("dob", "metadata", "form #>> '{a}'"), ("a",)),), (FORM,))
    return generate_tables(structure, profile, taken=())


def test_generated_columns_come_from_where_their_sql_takes_them(tables: list[TableSpec], static: Lineage) -> None:
    marts = {
        name: f"select {', '.join(static[name])} from explorer.tenant_raw.raw_{name}" for name in ("cases", "forms")
    }
    told = lineage_of(marts | {table.name: _plain(table.sql) for table in tables})
    assert {table.kind for table in tables} == {"case_type", "form", "repeat"}
    for table in tables:
        by_rule = {name: _columns(lineage) for name, lineage in lineage_of_table(table).items()}
        assert by_rule == {name: _columns(lineage) for name, lineage in told[table.name].items()}, table.name
        assert all(origin in static for columns in by_rule.values() for origin, _ in columns)


def test_generated_columns_know_their_path(tables: list[TableSpec]) -> None:
    found = {table.name: lineage_of_table(table) for table in tables}
    assert found["form_visit"]["g__born"] == ColumnLineage((Origin("forms", "form", ("g", "born")),))
    assert found["form_visit"]["case_id"].origins == (Origin("forms", "form", ("case", "@case_id")),)
    assert found["form_visit"]["photo_url"].origins == (
        Origin("forms", "attachments"), Origin("forms", "form", ("photo",)),
    )  # fmt: skip
    assert found["form_visit__doses"]["given"].origins == (Origin("forms", "form", ("member", "doses", "given")),)
    assert found["case_child"]["dob"].origins == (Origin("cases", "properties", ("dob",)),)
    assert found["case_child"]["parent_case_id"].origins == (Origin("cases", "indices", ("parent", "case_id")),)
    assert found["case_child"]["owner_id"].origins == (Origin("cases", "owner_id"),)


def test_static_models_are_traced_to_the_raw_tables_and_the_path_in_the_record(static: Lineage) -> None:
    staged = static["stg_cases"]
    assert staged["case_id"] == ColumnLineage((Origin("raw_cases", "case_id"),))
    assert staged["date_opened"] == ColumnLineage(
        (Origin("raw_cases", "record", ("date_opened",)),), "casts.safe_timestamptz(source.record ->> 'date_opened')"
    )
    assert staged["properties"].origins == (Origin("raw_cases", "record", ("properties",)),)
    assert static["stg_forms"]["user_id"].origins == (Origin("raw_forms", "record", ("metadata", "userID")),)
    assert static["cases"]["properties"] == ColumnLineage((Origin("stg_cases", "properties"),))
    # At any depth of the form: which path is not known.
    assert static["form_cases"]["case_id"].origins == (Origin("stg_forms", "form"),)
    for columns in (static[model] for model in static if model.startswith("stg_")):
        assert all(lineage.origins for lineage in columns.values())


def test_every_column_of_the_static_models_has_lineage(static: Lineage) -> None:
    described = [
        model for path in MODELS.rglob("*.yml") for model in yaml.safe_load(path.read_text()).get("models", ())
    ]
    assert len(described) > 20
    for model in described:
        assert {column["name"] for column in model["columns"]} <= set(static[model["name"]]), model["name"]


def test_rows_of_functions_and_of_steps_before_are_followed(static: Lineage) -> None:
    fields = (Origin("stg_lookup_tables", "fields"),)
    assert static["lookup_tables"]["field_names"].origins == fields
    assert static["lookup_table_items"]["fields"].origins == (Origin("stg_lookup_table_items", "fields"),)
    above = static["locations"]
    assert above["ancestor_ids"].origins == (Origin("stg_locations", "location_id"),)
    assert above["ancestor_type_codes"].origins == (Origin("stg_locations", "location_type_code"),)
    assert above["depth"].origins == ()
    steps = (
        "with recursive t as (select a, b, c, 1 as n from explorer.tenant_raw.raw_x"
        " union all select t.b, t.c, y.d, t.n + 1 from explorer.tenant_raw.raw_y as y join t on t.c = y.c)"
    )
    told = lineage_of({"steps": f"{steps} select a, n from t"})["steps"]
    assert [origin.column for origin in told["a"].origins] == ["a", "b", "c", "d"]
    assert told["n"].origins == ()


def test_sql_that_is_not_understood_tells_nothing() -> None:
    raw = "explorer.tenant_raw.raw_x"
    told = lineage_of(
        {
            "good": f"select record -> 'a' ->> 'b' as b, count(*) as n, 'x' as x, f(record) ->> 'b' as f from {raw}",
            "broken": "select from where",
            "star": "select * from elsewhere.unknown.relation",
            "over_star": "select a from explorer.tenant_marts.star",
            "wide": f"select jsonb_build_object('k', record -> 'a') as made from {raw}",
            "deep": "select made ->> 'k' as k from (select * from explorer.tenant_marts.wide) as w",
        }
    )
    assert told["good"]["b"].origins == (Origin("raw_x", "record", ("a", "b")),)
    assert told["good"]["n"] == ColumnLineage((), "COUNT(*)")
    assert told["good"]["f"].origins == (Origin("raw_x", "record"),)
    assert "broken" not in told
    assert "a" not in told["star"]
    assert told["wide"]["made"].origins == (Origin("raw_x", "record", ("a",)),)
    assert told["deep"]["k"].origins == (Origin("wide", "made", ("k",)),)


def test_lineage_is_kept_beside_the_tables(
    make_workshop: Callable[[], Workshop], tables: list[TableSpec], static: Lineage
) -> None:
    workshop = make_workshop()
    prefix, schemas = workshop.tenant.prefix, TenantSchemas(workshop.tenant.prefix)
    with workshop.tenant.rw.connect(autocommit=True) as connection:
        assert read(connection, schemas) == {}
        column_lineage.write(connection, schemas, static, tables, version="1")
        whole = static | {table.name: lineage_of_table(table) for table in tables}
        assert read(connection, schemas) == whole
        column_lineage.write(connection, schemas, {}, [], version="1")
        assert read(connection, schemas) == whole
        connection.execute(f"create table {prefix}_marts.case_child (case_id text)".encode())
        column_lineage.write(connection, schemas, {"x": {}}, [], version="2")
        assert read(connection, schemas) == {"x": {}, "case_child": whole["case_child"]}


def _plain(sql: str) -> str:
    """The SQL as the platform renders it for reading lineage: no database, casts as calls."""
    sql = re.sub(r"\{\{ ref\('(\w+)'\) \}\}", r"explorer.tenant_marts.\1", sql)
    return re.sub(r"""\{\{ (\w+)\((["'])(.*?)\2\) \}\}""", r"macro__\1((\3))", sql)


def _columns(lineage: ColumnLineage) -> set[tuple[str, str]]:
    return {(origin.table, origin.column) for origin in lineage.origins}
