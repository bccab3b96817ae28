"""The shipped marts of CommCare over tables that the engine built: what they say, and that they follow every change."""

import secrets
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as settings_of_examples
from hypothesis import strategies as st
from psycopg import sql

from explorer.core.settings import Settings
from explorer.marts import Built, Models, TenantDbt, build, manifest
from explorer.providers.commcare.structure import Structure
from explorer.registry import load_pipelines, load_semantics
from tests.explorer.workshop import RAW_TABLES, Workshop

ROOT = Path(__file__).resolve().parents[3]
DAY = datetime(2024, 3, 1, tzinfo=UTC)
VISIT = "http://x/visit"
TABLES = ("swapped_table", "swapped_incremental")
NOTHING = Structure((), (), ())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(_env_file=None, home=tmp_path_factory.mktemp("home"), project_dir=ROOT)


@pytest.fixture(scope="module")
def workshop(make_workshop: Callable[[], Workshop]) -> Workshop:
    workshop = make_workshop()
    workshop.make_raw(*RAW_TABLES)
    with workshop.tenant.rw.connect() as connection:
        rejected = f"{workshop.tenant.names.schema('raw')}.raw_rejected"
        connection.execute(
            f"create table {rejected} (rejected_id text, resource text, reason text, record_start text)".encode()
        )
        connection.execute(
            f"insert into {rejected} values ('r1', 'cases', 'no key', '{{'), ('r2', 'cases', 'no key', '')".encode()
        )
    _people(workshop)
    _cases(workshop)
    _submissions(workshop)
    workshop.build(NOTHING)
    return workshop


@pytest.fixture(scope="module")
def dbt(workshop: Workshop, settings: Settings) -> TenantDbt:
    return TenantDbt(settings, "commcare", workshop.tenant.names, workshop.tenant.rw)


@pytest.fixture(scope="module")
def first(dbt: TenantDbt) -> Built:
    """Everything built, and no test of the data fails."""
    built = _build(dbt)
    assert {name: result.message for name, result in built.results.items() if result.verb != "built"} == {}
    assert {name: test.message for name, test in built.tests.items() if test.status != "pass"} == {}
    return built


def _build(dbt: TenantDbt, *, by_need: bool = True) -> Built:
    return build(
        dbt,
        Models(manifest(dbt.settings, dbt.provider)),
        wanted=None,
        by_need=by_need,
        run_id="run-1",
        on_plan=lambda _: None,
        on_result=lambda _: None,
    )


def _people(workshop: Workshop) -> None:
    places = {"in": {"latitude": "28.6", "longitude": ""}, "bihar": {"latitude": "25° N"}, "lost": {"latitude": "912"}}
    for location, level, above in (("in", "state", ""), ("bihar", "district", "in"), ("lost", "district", "archived")):
        record = {"name": location.title(), "location_type_code": level, **places[location]}
        workshop.add(
            "raw_locations", record, location_id=location, site_code=location, parent_location_id=above or None
        )
    for user, active, own in (("u1", True, ["bihar", "gone"]), ("u2", False, []), ("idle", True, [])):
        person: dict[str, Any] = {"locations": own, "primary_location": own[0] if own else None}
        workshop.add("raw_users", person, user_id=user, username=user, is_active=active)
    web: dict[str, Any] = {"primary_location_id": "in", "assigned_location_ids": []}
    workshop.add("raw_web_users", web, web_user_id="w1", username="chief")
    for group, sharing in (("g1", True), ("g2", "perhaps")):
        workshop.add("raw_groups", {"case_sharing": sharing, "reporting": None}, group_id=group, name=group)


def _cases(workshop: Workshop) -> None:
    def add(case_id: str, owner: str | None, **more: Any) -> None:
        record: dict[str, Any] = {"case_id": case_id, "case_name": "n", "date_opened": DAY.isoformat(), **more}
        keys = {"owner_id": owner, "closed": more.get("closed", False), "server_last_modified": datetime.now(UTC)}
        workshop.add("raw_cases", record, case_id=case_id, case_type="child", **keys)

    add(
        "good",
        "u1",
        properties={"next_visit": "2024-04-01"},
        indices={"parent": {"case_id": "closed", "case_type": "child"}},
    )
    add("orphan", "u2", indices={"parent": {"case_id": "nowhere", "case_type": "child"}})
    add("closed", "nobody", closed=True, date_closed=(DAY + timedelta(days=2)).isoformat())
    add("empty", None, case_name="", date_opened="---")
    add("future", "in", date_opened="2099-01-01T00:00:00Z")


def _submissions(workshop: Workshop) -> None:
    def add(form_id: str, start: str | None, end: str | None, *, user: str | None = "u1", **keys: Any) -> None:
        case = {"@case_id": keys.pop("case", "good"), "update": keys.pop("update", None)}
        record = {
            "form": {"@xmlns": VISIT, "@name": "Visit", "case": case},
            "metadata": {"userID": user, "timeStart": start, "timeEnd": end},
        }
        received = keys.pop("received", DAY + timedelta(hours=12))
        workshop.add("raw_forms", record, form_id=form_id, received_on=received, **{"archived": False, **keys})

    add("v1", "2024-03-01T09:00:00Z", "2024-03-01T09:10:00Z")
    add("v2", "2024-03-01T09:00:00+05:30", "2024-03-01T09:20:00+05:30", case="closed")
    add("v3", "2024-03-01T09:00:00Z", "2024-03-01T08:59:00Z", update={"next_visit": "2024-04-01"})
    add("taken_back", "2024-03-01T09:00:00Z", "2024-03-01T10:00:00Z", archived=True, case="orphan")
    add("late", "2024-02-01T09:00:00Z", "2024-02-01T09:05:00Z", case="deleted")
    add("ahead", None, "2024-03-09T09:00:00Z", user="ghost", received=DAY, update={"next_visit": "2024-02-20"})


def test_days_of_a_case_type(workshop: Workshop, first: Built) -> None:
    columns = "day, opened, closed, touched, users, open_at_end"
    assert workshop.read(f"select {columns} from case_activity where case_type = 'child' order by day nulls first") == [
        (None, 1, 0, 0, 0, 1),
        (date(2024, 3, 1), 3, 0, 2, 2, 4),
        (date(2024, 3, 3), 0, 1, 0, 0, 3),
        (date(2099, 1, 1), 1, 0, 0, 0, 4),
    ]


def test_what_a_worker_did_in_a_day(workshop: Workshop, first: Built) -> None:
    columns = "day, form_name, user_id, submissions, archived, cases_touched, median_duration_s, late_submissions"
    assert workshop.read(f"select {columns} from form_activity where xmlns = 'http://x/visit' order by 3") == [
        (date(2024, 3, 1), "Visit", "ghost", 1, 0, 1, None, 0),
        (date(2024, 3, 1), "Visit", "u1", 4, 1, 3, 600.0, 1),
    ]
    delay = "select median_delay_s from form_activity where user_id = 'ghost'"
    assert workshop.read(delay) == [(-(8 * 24 + 9) * 3600.0,)]
    totals = "select sum(submissions + archived), (select count(*) from forms) from form_activity"
    assert len(set(workshop.read(totals)[0])) == 1


def test_each_check_finds_what_it_says(workshop: Workshop, first: Built) -> None:
    found = workshop.read(
        "select table_name, check_name, rows_found, example_id from data_quality where rows_found > 0"
    )
    assert sorted(found) == [
        ("cases", "missing_related_case", 1, "orphan"),
        ("cases", "no_date_opened", 1, "empty"),
        ("cases", "no_last_modified", 5, "closed"),
        ("cases", "no_name", 1, "empty"),
        ("cases", "no_owner", 1, "empty"),
        ("cases", "opened_in_future", 1, "future"),
        ("cases", "owner_deactivated", 1, "orphan"),
        ("cases", "unknown_owner", 1, "closed"),
        ("form_cases", "unknown_case", 1, "late"),
        ("forms", "archived", 1, "taken_back"),
        ("forms", "ended_before_started", 1, "v3"),
        ("forms", "ended_in_future", 1, "ahead"),
        ("forms", "no_times", 1, "ahead"),
        ("forms", "received_late", 1, "late"),
        ("forms", "unknown_user", 1, "ahead"),
        ("groups", "unreadable_values", 1, "g2"),
        ("locations", "impossible_place", 1, "lost"),
        ("locations", "unknown_parent", 1, "lost"),
        ("locations", "unreadable_values", 1, "bihar"),
        ("raw_cases", "rejected", 2, "r1"),
        ("user_locations", "unknown_location", 1, "u1"),
        ("users", "active_without_submission", 1, "idle"),
    ]
    assert workshop.read("select rows_checked from data_quality where check_name = 'untouched_180_days'") == [(5,)]


def test_the_shipped_examples_and_measures_run(workshop: Workshop, first: Built) -> None:
    pipelines = ROOT / "pipelines"
    semantics = load_semantics(pipelines, load_pipelines(pipelines)["commcare_sync"])
    assert {e.question: workshop.read(e.sql) for e in semantics.examples}["What is wrong with the data?"]
    values = {m.name: workshop.read(f"select {m.sql} from {m.table}")[0][0] for m in semantics.measures}
    assert values["caseload"] == values["open_cases"] == 4
    assert values["submissions"] == workshop.read("select sum(submissions) from form_activity")[0][0]


def test_a_worker_month_tells_times_and_hours(workshop: Workshop, first: Built) -> None:
    columns = "user_id, month, user_kind, submissions, days_active, cases_touched, late_share, working_hours_share"
    assert workshop.read(f"select {columns} from worker_activity_monthly order by 1") == [
        ("ghost", date(2024, 3, 1), None, 1, 1, 1, 0.0, 0.0),
        ("u1", date(2024, 3, 1), "mobile_worker", 4, 1, 3, 0.25, 0.75),
    ]


def test_places_have_the_numbers_of_those_below(workshop: Workshop, first: Built) -> None:
    columns = "location_id, month, workers, submissions, cases_opened, cases_closed, cases_open_at_end"
    assert workshop.read(f"select {columns} from location_activity_monthly order by 2, 1") == [
        ("bihar", date(2024, 3, 1), 1, 4, 1, 0, 1),
        ("in", date(2024, 3, 1), 2, 4, 1, 0, 1),
        ("in", date(2099, 1, 1), 2, 0, 1, 0, 2),
    ]


def test_follow_ups_are_read_from_what_submissions_wrote(workshop: Workshop, first: Built) -> None:
    columns = "case_id, property, form_id, due_on, done_on, days_late, status"
    assert workshop.read(f"select {columns} from follow_ups order by due_on") == [
        ("good", "next_visit", "ahead", date(2024, 2, 20), date(2024, 3, 1), 10, "done"),
        ("good", "next_visit", "v3", date(2024, 4, 1), None, None, "open"),
    ]
    [(overdue,)] = workshop.read("select days_overdue from follow_ups_overdue")
    assert overdue >= (datetime.now(UTC).date() - date(2024, 4, 1)).days - 1


# Changes as loads make them: of the record that a number chooses.
CHANGES = {
    "raw_cases": [
        "owner_id = 'u2'",
        "closed = not closed",
        "_deleted_at = now()",
        "server_last_modified = server_last_modified + interval '3 days'",
    ],
    "raw_forms": [
        "archived = not archived",
        "received_on = received_on + interval '40 days'",
        "_deleted_at = now()",
        """record = jsonb_set(record, '{form,case,@case_id}', '"orphan"')""",
        """record = jsonb_set(record, '{metadata,userID}', '"u2"')""",
    ],
    "raw_users": ["is_active = not is_active", "username = username || '2'", "_deleted_at = now()"],
    "raw_locations": ["parent_location_id = 'in'", "_deleted_at = now()"],
    "raw_groups": ["""record = record || '{"case_sharing": true}'"""],
}
ONE_CHANGE = st.one_of(
    st.tuples(st.sampled_from(["new visit", "new case"]), st.just("")),
    *(st.tuples(st.just(table), st.sampled_from(changes)) for table, changes in CHANGES.items()),
)
# One that is built by keys tells that it was.
BY_KEYS = {"stg_commcare__submissions", "visits", "case_life"}


@settings_of_examples(max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(ONE_CHANGE, st.integers(0, 99)), min_size=1, max_size=5))
def test_marts_that_follow_changes_are_what_a_whole_build_makes(
    workshop: Workshop, dbt: TenantDbt, first: Built, changes: list[tuple[tuple[str, str], int]]
) -> None:
    """Records of every kind change, move, come and go; what was not stale had no reason to change."""
    for (table, change), number in changes:
        _change(workshop, table, change, number)
    workshop.build(NOTHING)
    built = _build(dbt)
    assert {name for name, result in built.results.items() if result.verb in ("failed", "skipped")} == set()
    for name in BY_KEYS & {name for name, result in built.results.items() if result.verb == "built"}:
        assert (built.builds[name].whole_version or 0) < built.builds[name].version
    followed = _contents(workshop, dbt)
    _build(dbt, by_need=False)
    assert followed == _contents(workshop, dbt)
    assert {result.verb for result in _build(dbt).results.values()} == {"unchanged"}


def _change(workshop: Workshop, table: str, change: str, number: int) -> None:
    if table not in CHANGES:
        # Its day is of the number.
        moment, name = DAY + timedelta(days=number), f"{table} {secrets.token_hex(4)}"
        if table == "new visit":
            record = {
                "form": {"@xmlns": VISIT, "case": {"@case_id": "good", "update": {"next_visit": "2024-05-01"}}},
                "metadata": {"userID": "u1", "timeStart": moment.isoformat(), "timeEnd": moment.isoformat()},
            }
            workshop.add("raw_forms", record, form_id=name, received_on=moment, archived=False)
        else:
            record = {"case_id": name, "date_opened": moment.isoformat(), "properties": {"next_visit": "2024-05-01"}}
            keys = {"owner_id": "u1", "closed": False, "server_last_modified": moment}
            workshop.add("raw_cases", record, case_id=name, case_type="child", **keys)
        return
    key = sql.Identifier(table.removeprefix("raw_").removesuffix("s") + "_id")
    with workshop.tenant.rw.connect() as connection:
        connection.execute(
            sql.SQL(
                "update {table} set {change}, _loaded_at = clock_timestamp()"
                " where {key} = (select {key} from {table} where _deleted_at is null order by md5({key} || %s) limit 1)"
            ).format(table=sql.Identifier(workshop.tenant.names.raw, table), change=sql.SQL(change), key=key),
            [str(number)],
        )


def _contents(workshop: Workshop, dbt: TenantDbt) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all marts but the views, which cannot lag behind."""
    models = manifest(dbt.settings, dbt.provider)["nodes"].values()
    tables = [model["name"] for model in models if model["config"].get("materialized") in TABLES]
    with workshop.tenant.rw.connect() as connection:
        path = sql.SQL(", ").join(map(sql.Identifier, (workshop.tenant.names.marts, workshop.tenant.names.staging)))
        connection.execute(sql.SQL("set search_path = {}").format(path))
        return {
            name: connection.execute(
                sql.SQL("select t::text from {} t order by 1").format(sql.Identifier(name))
            ).fetchall()
            for name in tables
        }
