"""A project space whose application is deleted and replaced by another one, from the server to agents' tables."""

from typing import Any

import dagster as dg

from demo_commcare import MATERNAL
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Login
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.tables.engine import Updated, update
from tests.explorer_dagster.conftest import Stage

DISCOVERY = [dg.AssetKey(["commcare", "app_structure"])]
FORM = "http://openrosa.org/formdesigner/A3F1C20{}-5B1E-4C7D-9E2A-00000000000{}"
REGISTRATION, ANC, DELIVERY, PNC = (FORM.format(number, number) for number in (1, 5, 6, 8))


class Tables:
    """The tables of a stage's tenant."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._schemas = TenantSchemas(stage.catalog.schemas.get(stage.tenant).prefix)
        rw = stage.catalog.schemas.rw_login(stage.tenant)
        self._login: Login = stage.pg_server.connections.tenant(rw.user, rw.password)

    def build(self) -> Updated:
        latest, planner = self._stage.catalog.discovered.latest(self._stage.tenant), CommCareTables()
        assert latest is not None
        with self._login.connect() as connection:
            planned = planner.plan_tables(latest.structure, connection, self._schemas, taken=())
        updated = update(self._login, self._schemas, planned, planner.changed_records, run_id="r")
        assert [(each.table, each.message) for each in updated.results.values() if not each.is_current] == []
        return updated

    def read(self, query: str) -> list[tuple[Any, ...]]:
        with self._login.connect() as connection:
            connection.execute(f"set search_path to {self._schemas.marts}".encode())
            return connection.execute(query.encode()).fetchall()


def names(updated: Updated) -> dict[str, str]:
    return {table.source: table.name for table in updated.tables.values() if table.part == 1}


def changed(applications: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Other applications with the same forms, under other titles: no choice `fever`, photos and places are texts."""
    for application in applications:
        application["id"], application["version"] = f"ff{application['id'][2:]}", 41
        application["name"] = f"New {application['name']}"
        for form in (form for module in application["modules"] for form in module.get("forms", ())):
            form["name"] = {language: f"New {name}" for language, name in form["name"].items()}
            for question in form["questions"]:
                if question["type"] in ("Image", "Geopoint"):
                    question["type"] = "Text"
                if question["type"] == "MSelect":
                    question["options"] = question["options"][1:]
    return applications


def test_what_was_known_stays_when_another_application_takes_over(stage: Stage) -> None:
    control = stage.demo.control
    before = stage.demo.truth(MATERNAL).applications
    tables = Tables(stage)
    try:
        assert stage.run().success
        first = tables.build()
        assert_entries_lead_to_their_cases(stage, tables, names(first))
        anc, registration = names(first)[ANC], names(first)[REGISTRATION]
        [signs] = [
            [option.value for option in column.options]
            for table in first.tables.values()
            for column in table.columns
            if table.name == anc and column.name == "danger_signs"
        ]
        control.set_applications(MATERNAL, changed(stage.demo.truth(MATERNAL).applications))
        assert stage.run(asset_selection=DISCOVERY).success
        second = tables.build()
    finally:
        control.set_applications(MATERNAL, before)
    assert names(second) == names(first)
    assert list(second.retired) == []
    after = {table.name: {column.name: column for column in table.columns} for table in second.tables.values()}
    for table in first.tables.values():
        assert {column.name for column in table.columns} <= after[table.name].keys()
    assert signs
    removed = after[anc][f"danger_signs__{signs[0]}"]
    assert (
        "Removed from the application since version 41 of application New Maternal Health Register"
        in removed.description
    )
    chosen = f"select count(*) from {anc} where '{signs[0]}' = any(danger_signs)"
    assert tables.read(f"{chosen} and danger_signs__{signs[0]}") == tables.read(chosen) != [(0,)]
    assert tables.read(f"select 1 from {anc} where 'danger_signs' = any(unfit_columns)") == []
    assert tables.read(f"select count(house_photo_url), count(house_gps_latitude) from {registration}")[0] > (0, 0)
    assert tables.read(f"select 1 from {registration} where house_gps is null <> (house_gps_latitude is null)") == []


def assert_entries_lead_to_their_cases(stage: Stage, tables: Tables, found: dict[str, str]) -> None:
    babies, pnc = found[f"{DELIVERY} babies"], found[PNC]
    truth = {
        (form["id"], baby["case"]["@case_id"])
        for form in stage.demo.truth(MATERNAL).forms
        if form["form"]["@xmlns"] == DELIVERY
        for baby in _listed(form["form"].get("babies"))
    }
    assert set(tables.read(f"select form_id, case_id from {babies}")) == truth != set()
    of_blocks = "select distinct repeat_id, case_id from form_cases where path = 'babies/case' order by 1"
    assert tables.read(of_blocks) == tables.read(f"select repeat_id, case_id from {babies} order by 1")
    query = f"select count(*), count(case_id), count(mother_check_case_id) from {pnc}"
    assert len(set(tables.read(query)[0])) == 1


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def test_what_applications_said_last_holds_while_they_may_not_be_read(stage: Stage) -> None:
    assert stage.run(asset_selection=DISCOVERY).success
    known = stage.catalog.discovered.latest(stage.tenant)
    stage.demo.control.fail("/application/v1/", status=403, times=9, body="")
    assert stage.run(asset_selection=DISCOVERY).success
    latest = stage.catalog.discovered.latest(stage.tenant)
    assert known is not None
    assert latest is not None
    assert latest.structure["forms"] == known.structure["forms"] != []
    assert latest.structure["case_types"] == known.structure["case_types"] != []
    assert latest.structure["warnings"]
