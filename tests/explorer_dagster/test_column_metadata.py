"""Columns in Dagster's metadata: with their origin, and for many generated tables only as many as an event can hold."""

import dagster as dg
import pytest

from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.providers.commcare.tables.plan import CommCareTables, generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.values import TableSpec
from explorer_dagster import column_metadata
from explorer_dagster.column_metadata import of_family, of_relation, planned

RAW, FORMS = dg.AssetKey(["commcare", "raw", "cases"]), dg.AssetKey(["commcare", "marts", "forms"])
STAGED = {
    "case_id": ColumnLineage((Origin("raw_cases", "case_id"),)),
    "name": ColumnLineage((Origin("raw_cases", "record", ("a", "name")), Origin("raw_cases", "record", ("b",)))),
    "one": ColumnLineage((), "1"),
}


def tables(*sizes: int) -> list[TableSpec]:
    forms = tuple(
        Form(f"http://{i}", {"en": f"F{i}"}, f"F{i}", "a", "App", "Module", None,
             tuple(Question(("g", f"q{n}"), f"Question {n} " * 20, "Text") for n in range(size)))
        for i, size in enumerate(sizes)
    )  # fmt: skip
    return generate_tables(Structure((), (), forms), Profile(), taken=())


def test_a_models_columns_carry_their_origin_and_the_path_within_it() -> None:
    types = [("case_id", "text"), ("name", "text"), ("one", "integer"), ("unknown", "text")]
    found = of_relation(types, {"name": "Its name."}, STAGED, {"raw_cases": RAW})
    columns = {column.name: column for column in found.schema.columns}
    assert columns["name"].tags == {"made_from": "raw_cases.record at a/name, raw_cases.record at b"}
    assert columns["name"].description == "Its name."
    assert columns["one"].tags == columns["unknown"].tags == {}
    assert found.lineage.deps_by_column == {
        "case_id": [dg.TableColumnDep(RAW, "case_id")],
        "name": [dg.TableColumnDep(RAW, "record")],
        "one": [],
    }


def test_definitions_carry_types_and_origins_of_a_table() -> None:
    [cases] = [table for table in CommCareTables.fixed if table.name == "cases"]
    columns = {column.name: column for column in planned(cases).columns}
    assert columns.keys() == {column.name for column in cases.columns}
    assert (columns["case_name"].type, columns["closed"].type) == ("text", "boolean")
    assert columns["case_name"].tags == {"made_from": "raw_cases.record at case_name"}
    assert columns["case_id"].description


def test_generated_columns_are_named_with_their_table_and_path() -> None:
    [table] = tables(2)
    found = of_family([table], {table.name: [("g__q0", "bigint")]}, {"forms": FORMS})
    columns = {column.name: column for column in found.schema.columns}
    assert columns["form_f0.g__q0"].type == "bigint"
    assert columns["form_f0.g__q0"].tags == {"made_from": "forms.form at g/q0"}
    assert len(columns["form_f0.g__q0"].description) <= 120
    assert found.lineage.deps_by_column["form_f0.g__q1"] == [dg.TableColumnDep(FORMS, "form")]
    assert len(found.schema.columns) == len(table.columns)


def test_what_an_event_cannot_bear_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_metadata, "MAX_GENERATED_COLUMNS", 40)
    many = tables(5, 100, 5)
    found = of_family(many, {}, {"forms": FORMS})
    assert {column.name.partition(".")[0] for column in found.schema.columns} == {"form_f0", "form_f2"}
    assert len(found.schema.columns) == sum(len(table.columns) for table in many if table.name != "form_f1")
