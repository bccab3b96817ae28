"""Resources that plan or role do not allow are skipped with the server's reason, and the rest is loaded."""

from typing import Any

from demo_commcare import MATERNAL
from tests.explorer_dagster.conftest import Stage

NO_FLAG = '{"error": "You don\'t have permission to access this API"}'
NO_PLAN = '{"error": "Your current subscription does not have access to this feature"}'


def materialized(result: Any) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.path[-1]: {label: value.value for label, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }


def test_resources_that_are_not_allowed_are_skipped_with_the_servers_reason(stage: Stage) -> None:
    refused = {
        "users": ("/user/v1/", 401, NO_FLAG, "permission to access this API"),
        "locations": ("/location/v2/", 403, "", "denies access"),
        "lookup_tables": ("/lookup_table/v1/", 401, NO_PLAN, "subscription"),
    }
    for pattern, status, body, _ in refused.values():
        stage.demo.control.fail(pattern, status=status, times=99, body=body)
    result = stage.run("groups", *refused)
    assert result.success
    found = materialized(result)
    for name, (*_, reason) in refused.items():
        assert found[name]["status"] == "skipped"
        assert reason in found[name]["skipped_reason"]
        assert found[name]["dagster/row_count"] == 0
    assert found["groups"]["status"] == "loaded"
    assert stage.rows("raw_groups") == len(stage.demo.truth(MATERNAL).groups)
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_what_was_loaded_before_stays_when_the_permission_is_taken_away(stage: Stage) -> None:
    assert stage.run("groups", "locations").success
    before = stage.rows("raw_locations")
    assert before
    stage.demo.control.deny(MATERNAL, "location")
    result = stage.run("groups", "locations")
    assert materialized(result)["locations"]["status"] == "skipped"
    assert stage.rows("raw_locations") == before


def test_when_nothing_is_allowed_the_run_fails_with_the_reason(stage: Stage) -> None:
    stage.demo.control.set_subscription(MATERNAL, False)
    result = stage.run("groups", "locations")
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data.metadata["code"].value == "commcare_no_subscription"
