"""A run rebuilds exactly the models whose result would differ."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.contract.bookkeeping.builds import Finding
from explorer.marts.causes import causes, summary
from explorer.marts.dbt.parsing import write_manifest
from explorer.marts.dbt.results import NodeResult
from explorer.marts.models import models_of
from explorer.marts.planning import Plan, plan
from explorer.marts.project import TenantProject
from explorer.marts.refresh import refresh
from explorer.providers.commcare.structure import CaseType, Form, Question, Structure
from tests.explorer.workshop import DBT_PROJECT, RAW_TABLES, Workshop

# What all cases, and what all submissions, are in.
OF_CASES = {"cases", "case_activity", "data_quality"}
OF_FORMS = {"forms", "form_cases", "form_activity", "case_activity", "data_quality"}
VISIT, SURVEY = "http://openrosa.org/formdesigner/visit", "http://openrosa.org/formdesigner/survey"


def structure(*more: str) -> Structure:
    questions = (
        Question(("age",), label="Age", type="Int"),
        Question(("child",), label="Child", type="Repeat", is_group=True),
        Question(("child", "name"), label="Name", type="Text", repeat=("child",)),
    )
    forms = tuple(
        Form(xmlns, {"en": title}, title, "a", "App", "Module", None, questions)
        for xmlns, title in ((SURVEY, "Survey"), (VISIT, "Visit"))
    )
    return Structure((), (CaseType("child", ("dob",), ("a",)), CaseType("pregnancy", ("edd", *more), ("a",))), forms)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("static") / "target"
    write_manifest(DBT_PROJECT, folder)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest


@pytest.fixture(scope="module")
def workshop(make_workshop: Callable[[], Workshop]) -> Workshop:
    """A tenant whose tables are all built and in step with what was loaded."""
    made = make_workshop()
    made.make_raw(*(table for table in RAW_TABLES if table != "raw_ucr_rows"))
    made.add_case("c1", "pregnancy", edd="2024-05-01")
    made.add_case("c2", "child", dob="2024-01-01")
    made.add_form("f1", VISIT, {"age": "30", "child": {"name": "Asha"}})
    made.add_form("f2", SURVEY, {"age": "31"})
    return made


def _plan(workshop: Workshop, static: dict[str, Any], project: TenantProject) -> Plan:
    with workshop.tenant.rw.connect(autocommit=True) as connection:
        return plan(connection, project, models_of(project, static))


def _refresh(
    workshop: Workshop, project: TenantProject, planned: Plan, *, by_need: bool = True
) -> dict[str, NodeResult]:
    """Results by name."""
    with workshop.tenant.rw.connect(autocommit=True) as connection:
        results = refresh(
            connection, project, planned, planned.models, by_need=by_need,
            database=workshop.tenant.rw, on_result=lambda _: None,
            on_fallback=lambda *_: None,
        )  # fmt: skip
    return {result.name: result for result in results}


def _build(workshop: Workshop, static: dict[str, Any], *more: str) -> set[str]:
    """One run as the pipeline does it; the tables among the models it brought up to date."""
    project = workshop.prepare(structure(*more))
    planned = _plan(workshop, static, project)
    _refresh(workshop, project, planned)
    return {name for name in planned.stale if planned.models[name].kind != "view"}


@pytest.fixture(autouse=True)
def in_step(workshop: Workshop, static: dict[str, Any]) -> None:
    _build(workshop, static)


def test_nothing_is_built_when_nothing_changed(workshop: Workshop, static: dict[str, Any]) -> None:
    planned = _plan(workshop, static, workshop.prepare(structure()))
    assert planned.stale == frozenset()
    assert planned.rows["cases"] == workshop.read("select count(*) from cases")[0][0] > 0
    assert planned.rows["stg_cases"] is None


def test_a_changed_case_builds_only_what_shows_it(workshop: Workshop, static: dict[str, Any]) -> None:
    workshop.add_case("c3", "child", dob="2024-02-02")
    assert _build(workshop, static) == {"case_child"} | OF_CASES
    assert workshop.read("select dob::text from case_child where case_id = 'c3'") == [("2024-02-02",)]
    assert _build(workshop, static) == set()


def test_a_case_that_changes_its_type_leaves_its_old_table(workshop: Workshop, static: dict[str, Any]) -> None:
    workshop.add_case("c4", "child")
    _build(workshop, static)
    with workshop.tenant.rw.connect() as connection:
        connection.execute(
            f"update {workshop.tenant.names.schema('raw')}.raw_cases set case_type = 'pregnancy',"
            " record = jsonb_set(record, '{case_type}', '\"pregnancy\"'), _loaded_at = clock_timestamp()"
            " where case_id = 'c4'"
        )
    assert _build(workshop, static) == {"case_child", "case_pregnancy"} | OF_CASES
    assert workshop.read("select count(*) from case_child where case_id = 'c4'") == [(0,)]
    assert workshop.read("select count(*) from case_pregnancy where case_id = 'c4'") == [(1,)]


def test_a_deleted_case_leaves_its_tables(workshop: Workshop, static: dict[str, Any]) -> None:
    workshop.add_case("c5", "pregnancy")
    _build(workshop, static)
    with workshop.tenant.rw.connect() as connection:
        connection.execute(
            f"update {workshop.tenant.names.schema('raw')}.raw_cases set _deleted_at = clock_timestamp() where case_id = 'c5'"
        )
    assert _build(workshop, static) == {"case_pregnancy"} | OF_CASES
    assert workshop.read("select count(*) from case_pregnancy where case_id = 'c5'") == [(0,)]


def test_a_new_submission_builds_the_tables_of_its_form(workshop: Workshop, static: dict[str, Any]) -> None:
    workshop.add_form("f3", VISIT, {"age": "32", "child": [{"name": "B"}, {"name": "C"}]})
    assert _build(workshop, static) == {"form_visit", "form_visit__child"} | OF_FORMS
    assert workshop.read("select count(*) from form_visit__child where form_id = 'f3'") == [(2,)]


def test_a_changed_structure_builds_its_table(workshop: Workshop, static: dict[str, Any]) -> None:
    assert _build(workshop, static, "gravida") == {"case_pregnancy"}


def test_a_table_dropped_by_hand_comes_back(workshop: Workshop, static: dict[str, Any]) -> None:
    with workshop.tenant.rw.connect() as connection:
        connection.execute(f"drop table {workshop.tenant.names.schema('marts')}.case_child")
    assert _build(workshop, static) == {"case_child"}
    assert workshop.read("select count(*) from case_child where case_id = 'c2'") == [(1,)]


def test_a_model_that_failed_is_built_again(workshop: Workshop, static: dict[str, Any]) -> None:
    project = workshop.prepare(structure())
    broken = project.dir / "models" / "generated" / "case_child.sql"
    text = broken.read_text()
    workshop.add_case("c6", "child")
    planned = _plan(workshop, static, project)
    broken.write_text("select 1 / 0 as case_id")
    _refresh(workshop, replace(project, content_hash="broken"), replace(planned, changes={}))
    broken.write_text(text)
    assert workshop.read("select count(*) from case_child where case_id = 'c6'") == [(0,)]
    assert _build(workshop, static) == {"case_child"}
    assert workshop.read("select count(*) from case_child where case_id = 'c6'") == [(1,)]


def test_what_dbt_skips_names_the_table_that_failed_and_the_databases_words(
    workshop: Workshop, static: dict[str, Any]
) -> None:
    project = workshop.prepare(structure())
    [broken] = (project.dir / "models").rglob("cases.sql")
    text = broken.read_text()
    planned = _plan(workshop, static, project)
    broken.write_text("select 1 / 0 as case_id")
    results = _refresh(workshop, replace(project, content_hash="broken"), replace(planned, changes={}), by_need=False)
    broken.write_text(text)
    found = causes(results.values())
    assert found["cases"] == "division by zero"
    assert found["case_child"] == found["case_pregnancy"] == "not built, because cases failed: division by zero"
    said = str(summary(list(results.values())))
    assert said.startswith("1 model failed: cases: division by zero. ")
    assert f"{len(found) - 1} more were not built because of that: " in said
    assert {"cases", *OF_CASES} - {"cases"} <= set(said.replace(".", "").replace(",", "").split())
    _build(workshop, static)


def test_a_raw_table_that_comes_is_read(workshop: Workshop, static: dict[str, Any]) -> None:
    workshop.make_raw("raw_ucr_rows")
    assert _build(workshop, static) == {"ucr_rows", "data_quality"}


def test_what_a_test_found_stands_until_it_is_run_again(workshop: Workshop, static: dict[str, Any]) -> None:
    """Users who submitted forms are missing; a run that does not check this again keeps the finding."""

    def standing() -> list[Finding]:
        found = _plan(workshop, static, workshop.prepare(structure())).findings["forms"]
        return [finding for finding in found if finding.test.startswith("relationships_forms_user_id")]

    workshop.add_case("c7", "child")
    assert "forms" not in _build(workshop, static)
    [finding] = standing()
    assert (finding.status, finding.rows) == ("warn", workshop.read("select count(*) from forms")[0][0])
    workshop.add("raw_users", {"id": "u1", "username": "amina"}, user_id="u1", username="amina", is_active=True)
    assert {"users"} <= _build(workshop, static)
    assert standing() == []
