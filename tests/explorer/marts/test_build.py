"""dbt builds exactly the models whose rows would differ, and what it says reaches the run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from explorer.contract.bookkeeping import builds, loads
from explorer.contract.bookkeeping.loads import LoadState
from explorer.contract.retirement import RETENTION_DAYS, retirement_of
from explorer.marts import DbtProjectMissing, TransformFailed, manifest
from explorer.marts.command import build_arguments
from explorer.marts.process import invoke
from explorer.postgres.relations import relations
from explorer.tables.engine.results import TableResult
from explorer.tables.engine.retirement import retire
from tests.explorer.marts.studio import PROVIDER, Studio

MakeStudio = Callable[..., Studio]
SOURCES = {
    "models/commcare/_sources.yml": "sources: [{name: commcare, schema: '{{ target.schema }}', tables: [{name: cases}, "
    "{name: users}, {name: case_patient}]}]"
}
CASES, USERS = "{{ source('commcare', 'cases') }}", "{{ source('commcare', 'users') }}"


@pytest.fixture
def studio(make_studio: MakeStudio) -> Studio:
    made = make_studio(
        of_cases=f"select count(*) as n from {CASES}",
        above="select n + 1 as n from {{ ref('of_cases') }}",
        of_users=f"select count(*) as n from {USERS}",
        through="select n from {{ ref('shown') }}",
        shown="{{ config(materialized='view') }} select n * 10 as n from {{ ref('above') }}",
    )
    made.write(SOURCES)
    made.make_table("cases", "select 1 as case_id")
    made.make_table("users", "select 1 as user_id")
    return made


def test_models_are_built_when_what_they_read_changed(studio: Studio) -> None:
    assert set(studio.verbs().values()) == {"built"}
    assert studio.read("select n from through") == [(20,)]
    assert set(studio.verbs().values()) == {"unchanged"}
    studio.make_table("cases", "select generate_series(1, 3) as case_id")
    changed = {"of_cases": "built", "above": "built", "through": "built", "shown": "unchanged", "of_users": "unchanged"}
    assert studio.verbs() == changed
    assert studio.read("select n from through") == [(40,)]
    assert set(studio.verbs(wanted={"of_users", "above"}, by_need=False).values()) == {"built"}
    # Whoever reads `above`, which was built on its own, follows.
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"through"}


def test_a_changed_definition_and_a_lost_table_are_built(studio: Studio) -> None:
    studio.build()
    with studio.tenant.rw.connect() as connection:
        connection.execute(f"drop table {studio.tenant.names.marts}.of_users".encode())
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"of_users"}
    studio.write(of_users=f"select count(*) + 100 as n from {USERS}")
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"of_users"}
    assert studio.read("select n from of_users") == [(101,)]


def test_a_model_is_made_by_the_macros_models_and_settings_that_it_uses(make_studio: MakeStudio) -> None:
    studio = make_studio(
        alone="select 1 as n",
        by_macro="select {{ outer() }} as n",
        by_another="select n from {{ ref('inlined') }}",
        inlined="{{ config(materialized='ephemeral') }} select 1 as n",
    )
    macros = "{{% macro outer() %}}{{{{ inner() }}}}{{% endmacro %}} {{% macro inner() %}}{}{{% endmacro %}}"
    studio.write({"macros/numbers.sql": macros.format(1)})
    assert set(studio.verbs().values()) == {"built"}
    studio.write({"macros/numbers.sql": macros.format(2)})
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"by_macro"}
    studio.write(inlined="{{ config(materialized='ephemeral') }} select 2 as n")
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"by_another"}
    assert studio.read("select by_macro.n, by_another.n from by_macro, by_another") == [(2, 2)]
    about = "models: [{name: alone, description: It stands alone.}]"
    studio.write({"models/commcare/marts/alone.yml": about})
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"alone"}
    settings = studio.project / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("timezone: UTC", "timezone: Asia/Kathmandu"))
    assert set(studio.verbs().values()) == {"built"}


def test_a_model_of_a_raw_table_is_built_when_that_was_loaded(make_studio: MakeStudio) -> None:
    source = "sources: [{name: loaded, schema: \"{{ target.schema | replace('_marts', '_raw') }}\", tables: [{name: raw_cases}]}]"
    studio = make_studio(
        of_raw="select count(*)::int as n from {{ ref('shown') }}",
        shown="{{ config(materialized='view') }} select * from {{ source('loaded', 'raw_cases') }}",
    )
    studio.write({"models/commcare/_loaded.yml": source})
    raw = studio.tenant.names.raw
    with studio.tenant.rw.connect(autocommit=True) as connection:
        loads.read(connection, raw)
        connection.execute(f"create table {raw}.raw_cases (case_id text)".encode())
        loads.write(connection, raw, "cases", "raw_cases", LoadState(None, 0, 0, None), "run-0")
        assert set(studio.verbs().values()) == {"built"}
        assert set(studio.verbs().values()) == {"unchanged"}
        connection.execute(f"insert into {raw}.raw_cases values ('a')".encode())
        state = LoadState(None, 1, 0, loads.next_moment(connection, raw))
        loads.write(connection, raw, "cases", "raw_cases", state, "run-1")
    assert studio.verbs() == {"of_raw": "built", "shown": "unchanged"}
    assert studio.read("select n from of_raw") == [(1,)]
    assert set(studio.verbs().values()) == {"unchanged"}
    studio.write(shown="{{ config(materialized='view') }} select *, 1 as one from {{ source('loaded', 'raw_cases') }}")
    built = studio.build().builds["shown"].built_from["raw_cases"]
    assert built.startswith(f"{state.changed_at:%Y-%m-%d %H:%M:%S}")


def test_each_build_is_recorded_with_its_run_and_rows(studio: Studio) -> None:
    studio.build(run_id="the first -c x=1 \\ run")
    studio.make_table("users", "select generate_series(1, 2) as user_id")
    built = studio.build(run_id="second")
    runs = {name: each.run_id for name, each in built.builds.items() if each.kind == "model"}
    first = dict.fromkeys(("of_cases", "above", "through", "shown"), "the first -c x=1 \\ run")
    assert runs == {"of_users": "second", **first}
    assert (built.builds["of_users"].rows, built.builds["shown"].rows) == (1, None)
    assert built.results["of_users"].rows == built.results["of_cases"].rows == 1


def test_one_failing_model_fails_alone_and_is_tried_again(studio: Studio) -> None:
    studio.write(above="select 1 / (n - 1) as n from {{ ref('of_cases') }}", under="select * from {{ ref('above') }}")
    seen: list[TableResult] = []
    built = studio.build(on_result=seen.append)
    assert {name: each.verb for name, each in built.results.items()} == {
        "of_cases": "built", "above": "failed", "under": "skipped", "shown": "skipped", "through": "skipped",
        "of_users": "built",
    }  # fmt: skip
    assert built.results["above"].message == "division by zero"
    assert built.results["through"].message == "not built, because above failed: division by zero"
    assert {each.table for each in seen} >= {"of_cases", "above", "of_users"}
    assert "above" not in built.builds
    studio.make_table("cases", "select generate_series(1, 3) as case_id")
    assert {name for name, verb in studio.verbs().items() if verb == "unchanged"} == {"of_users"}
    assert studio.read("select n from under") == [(0,)]


def test_what_a_test_found_stands_until_it_runs_again(studio: Studio) -> None:
    studio.write(
        {
            "tests/few.sql": "{{ config(severity='warn') }} select 1 from {{ ref('of_users') }} where n > 1",
            "models/commcare/marts/of_cases.yml": "models: [{name: of_cases, columns: [{name: n, data_tests: [unique]}]}]",
        }
    )
    studio.make_table("users", "select generate_series(1, 2) as user_id")
    assert {name: each.status for name, each in studio.build().tests.items()} == {
        "few": "warn",
        "unique_of_cases_n": "pass",
    }
    built = studio.build()
    assert {each.verb for each in built.results.values()} == {"unchanged"}
    assert built.tests["few"].status == "warn"
    assert [each.check for each in built.builds["of_users"].findings] == ["few"]
    studio.make_table("users", "select 1 as user_id")
    built = studio.build()
    assert (built.tests["few"].status, built.builds["of_users"].findings) == ("pass", ())


def test_a_test_runs_over_what_it_did_not_see(studio: Studio) -> None:
    """One that is new, one of a table of the tenant that no model reads, and one that could not find out."""
    studio.build()
    assert studio.build().tests == {}
    studio.write(
        {
            "tests/on_table.sql": f"select 1 from {USERS} having count(*) > 1",
            "tests/on_model.sql": "select 1 from {{ ref('of_cases') }} where n > 1",
            "tests/broken.sql": "select 1 from {{ ref('of_cases') }} where 1 / (n - 1) = 1",
            "tests/on_missing.sql": "select 1 from {{ source('commcare', 'case_patient') }}",
        }
    )
    said = list[str]()
    built = studio.build(on_plan=said.append)
    assert {each.verb for each in built.results.values()} == {"unchanged"}
    told = {"on_table": "pass", "on_model": "pass", "broken": "error", "on_missing": "skipped"}
    assert {name: each.status for name, each in built.tests.items()} == told
    again = studio.build(on_plan=said.append)
    assert {name: each.status for name, each in again.tests.items()} == told
    assert [line.partition("models. ")[2] for line in said] == [
        f"{n} tests did not see what there is now." for n in (3, 1)
    ]
    studio.make_table("users", "select generate_series(1, 2) as user_id")
    assert studio.build().tests["on_table"].status == "fail"
    assert studio.build().tests["on_table"].status == "fail"


def test_a_model_whose_tables_the_tenant_lacks_is_left_out_in_words(studio: Studio) -> None:
    needs = "{{ config(meta={'requires': ['case_patient']}) }}"
    studio.write(
        patients=f"{needs} select count(*) as n from {{{{ source('commcare', 'case_patient') }}}}",
        under="select n from {{ ref('patients') }}",
    )
    built = studio.build()
    assert built.results["patients"].message == "This tenant has no table case_patient, which the model requires."
    assert built.results["under"].verb == "skipped"
    assert "patients" in str(built.results["under"].message)
    studio.make_table("case_patient", "select 1 as case_id")
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"patients", "under"}
    studio.write({"models/commcare/marts/patients.yml": "models: [{name: patients, description: All patients.}]"})
    studio.build()
    patient = f"{studio.tenant.names.marts}.case_patient"
    with studio.tenant.rw.connect(autocommit=True) as connection:
        connection.execute(f"comment on table {patient} is 'Retired since 2026-01-01: the source is gone.'".encode())
        assert studio.build().results["patients"].verb == "skipped"
        said = {each.name: each.comment for each in relations(connection, [studio.tenant.names.marts])}
        assert said["patients"].startswith(f"Retired since {datetime.now(UTC).date()}: a table that the model requires")
        assert said["patients"].endswith("It was: All patients.")
        assert retirement_of(said["under"])
        assert retirement_of(said["of_users"]) is None
        later = datetime.now(UTC).date() + timedelta(days=RETENTION_DAYS + 1)
        studio.build()
        assert retire(connection, studio.tenant.names, {"cases", "users"}, today=later) == []
        left = {each.name for each in relations(connection, [studio.tenant.names.marts])}
        assert left == {"cases", "users", "of_cases", "above", "of_users", "through", "shown"}
    studio.make_table("case_patient", "select 1 as case_id")
    assert {name for name, verb in studio.verbs().items() if verb == "built"} == {"patients", "under"}


def test_a_retired_model_whose_tables_come_back_is_built_and_says_what_it_is(studio: Studio) -> None:
    needs = "{{ config(materialized='incremental', meta={'requires': ['case_patient']}) }}"
    studio.write(patients=f"{needs} select count(*) as n from {{{{ source('commcare', 'case_patient') }}}}")
    studio.make_table("case_patient", "select 1 as case_id")
    studio.build()
    patient = f"{studio.tenant.names.marts}.case_patient"
    with studio.tenant.rw.connect(autocommit=True) as connection:
        connection.execute(f"comment on table {patient} is 'Retired since 2026-01-01: the source is gone.'".encode())
        studio.build()
        connection.execute(f"comment on table {patient} is 'All patients.'".encode())
        assert studio.verbs()["patients"] == "built"
        assert [
            each.comment for each in relations(connection, [studio.tenant.names.marts]) if each.name == "patients"
        ] == [""]


def test_models_that_the_project_no_longer_has_are_forgotten(studio: Studio) -> None:
    studio.build()
    (studio.project / "models/commcare/marts/of_users.sql").unlink()
    assert "of_users" not in studio.build().builds


def test_an_incremental_model_and_macros_of_dbt_work_as_documented(make_studio: MakeStudio) -> None:
    growing = "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id') }}"
    studio = make_studio(
        grows=f"{growing} select n as id from generate_series(1, 3) as n {{% if is_incremental() %}} where n > 2 {{% endif %}}",
        dated="select ({{ dbt.dateadd('day', 1, \"'2024-01-01'::date\") }})::date as day",
    )
    for _ in range(2):
        assert set(studio.verbs(by_need=False).values()) == {"built"}
    assert studio.read("select count(*) from grows") == [(3,)]
    assert studio.build().builds["grows"].rows == 3
    assert studio.read("select day::text from dated") == [("2024-01-02",)]


def test_dbt_sees_its_own_login_and_nothing_else(make_studio: MakeStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_SECRET_KEYS", "the key of all credentials")
    monkeypatch.setenv("DBT_ENV_SECRET_EXPLORER_PASSWORD", "of somebody else")
    studio = make_studio(
        peek="select '{{ env_var('EXPLORER_SECRET_KEYS', 'nothing') }}' as key, '{{ env_var('DBT_EXPLORER_USER', '') }}' as login"
    )
    studio.build()
    assert studio.read("select key, login from peek") == [("nothing", studio.tenant.rw.user)]


def test_sessions_end_their_queries_when_dbt_is_gone(make_studio: MakeStudio) -> None:
    studio = make_studio(
        told="select current_setting('client_connection_check_interval') as interval, current_setting('TimeZone') as zone"
    )
    studio.build()
    assert studio.read("select * from told") == [("1s", "UTC")]


def test_a_project_that_dbt_cannot_read_and_a_missing_one_are_named(make_studio: MakeStudio) -> None:
    studio = make_studio(broken="select * from {{ ref('nothing') }}")
    with pytest.raises(TransformFailed, match="depends on a node named 'nothing'"):
        manifest(studio.settings, PROVIDER)
    (studio.project / "dbt_project.yml").unlink()
    with pytest.raises(DbtProjectMissing, match="No dbt project"):
        manifest(studio.settings, PROVIDER)


def test_the_project_works_without_the_platform(make_studio: MakeStudio) -> None:
    """Where no builds are recorded, dbt builds all the same."""
    studio = make_studio(one="select 1 as n")
    with studio.tenant.rw.connect() as connection:
        builds.read(connection, studio.tenant.names)
        connection.execute(f"drop table {studio.tenant.names.staging}.explorer_tables".encode())
    assert invoke(build_arguments(["one"]), studio.dbt.environment("r"), lambda _: None).is_success
    assert studio.read("select n from one") == [(1,)]
