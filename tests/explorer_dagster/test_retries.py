"""A run that the server refuses for hours ends at once, keeps the loaded rows, and is started again when that is allowed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from demo_commcare import MATERNAL
from explorer.contract.tags import RunTags
from explorer_dagster import retries
from tests.explorer_dagster.conftest import Stage

HOURS = "7200.5"


def throttle(stage: Stage, pattern: str, retry_after: str = HOURS) -> None:
    stage.demo.control.fail(pattern, status=429, times=1000, body="", headers={"Retry-After": retry_after})


def time_passes(stage: Stage, result: Any) -> None:
    """The run may start, and the server accepts requests of all clients again."""
    stage.demo.control.clear_faults()
    stage.demo.control.no_throttle()
    stage.instance.add_run_tags(result.run_id, RunTags(retry_at=datetime.now(UTC) - timedelta(seconds=1)).to_tags())
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute("UPDATE catalog.request_slots SET not_before = now()")


def failure_metadata(result: Any) -> dict[str, Any]:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return {label: value.value for label, value in event.step_failure_data.user_failure_data.metadata.items()}


def test_a_throttled_run_ends_at_once_and_its_twin_does_the_rest(stage: Stage) -> None:
    throttle(stage, "/form/v1/")
    failed = stage.run("groups", "forms", tags={"explorer/full_refresh": "true", "explorer/requested_by": "ada"})
    assert not failed.success
    assert stage.rows("raw_groups") == len(stage.demo.truth(MATERNAL).groups)
    metadata = failure_metadata(failed)
    wait = datetime.fromisoformat(metadata["retry_at"]) - datetime.now(UTC)
    assert timedelta(hours=1.9) < wait < timedelta(hours=2.1)
    assert stage.run_tags(failed).retry_at == datetime.fromisoformat(metadata["retry_at"])
    assert stage.tick() == []

    time_passes(stage, failed)
    (request,) = stage.tick()
    assert request.job_name == "commcare_sync"
    assert request.partition_key == stage.tenant.key
    assert set(request.asset_selection or ()) == {
        dg.AssetKey(["commcare", "raw", name]) for name in ("groups", "forms")
    }
    assert request.tags["explorer/full_refresh"] == "true"
    assert request.tags["explorer/requested_by"] == "ada"
    assert [again.run_key for again in stage.tick()] == [request.run_key], "until it was launched it is asked for"

    again = stage.launch(request)
    assert again.success
    assert stage.rows("raw_forms") == len(stage.demo.truth(MATERNAL).forms)
    assert stage.tick() == []
    assert stage.run_tags(failed).retry == "started"


def test_a_run_sent_away_in_discovery_is_tried_again_too(stage: Stage) -> None:
    stage.demo.control.throttle({"day": 0}, HOURS)
    failed = stage.run()
    assert not failed.success
    time_passes(stage, failed)
    (request,) = stage.tick()
    assert request.asset_selection is None


def test_the_pause_holds_for_the_next_run_without_a_request(stage: Stage) -> None:
    throttle(stage, "/group/v1/")
    stage.run("groups")
    before = len(stage.demo.control.requests)
    second = stage.run("groups")
    assert not second.success
    assert failure_metadata(second)["code"] == "commcare_throttled"
    assert len(stage.demo.control.requests) == before


def test_retries_come_to_an_end(stage: Stage) -> None:
    throttle(stage, "/group/v1/", "6")
    last_but_one = stage.run("groups", tags=RunTags(retry_number=retries.MAX_RETRIES - 1).to_tags())
    wait = datetime.fromisoformat(failure_metadata(last_but_one)["retry_at"]) - datetime.now(UTC)
    assert wait > timedelta(minutes=10), "the later the retry, the longer the wait"
    time_passes(stage, last_but_one)
    throttle(stage, "/group/v1/", "6")
    (request,) = stage.tick()
    assert RunTags.from_tags(request.tags).retry_number == retries.MAX_RETRIES
    last = stage.launch(request)
    assert "retry_at" not in failure_metadata(last)
    assert stage.tick() == []


@pytest.mark.parametrize(
    ("failed", "later", "dropped"),
    [
        (("groups",), ("groups", "locations"), True),
        (("groups", "locations"), ("groups",), False),
    ],
)
def test_a_later_run_that_did_all_of_it_makes_the_retry_needless(
    stage: Stage, failed: tuple[str, ...], later: tuple[str, ...], dropped: bool
) -> None:
    throttle(stage, "/group/v1/")
    first = stage.run(*failed)
    time_passes(stage, first)
    assert stage.run(*later).success
    assert (stage.tick() == []) == dropped
    assert stage.run_tags(first).retry == ("dropped" if dropped else "waiting")


def test_a_sync_of_changes_does_not_stand_for_a_full_refresh(stage: Stage) -> None:
    throttle(stage, "/group/v1/")
    first = stage.run("groups", tags={"explorer/full_refresh": "true"})
    time_passes(stage, first)
    assert stage.run("groups").success
    assert len(stage.tick()) == 1


def test_a_tenant_that_is_gone_is_not_tried_again(stage: Stage) -> None:
    throttle(stage, "/group/v1/")
    first = stage.run("groups")
    time_passes(stage, first)
    stage.instance.delete_dynamic_partition("tenants", stage.tenant.key)
    assert stage.tick() == []
    assert stage.run_tags(first).retry == "dropped"


def test_other_failures_are_not_tried_again(stage: Stage) -> None:
    stage.demo.control.fail("/group/v1/", status=200, times=9, body="<html>login</html>")
    failed = stage.run("groups")
    assert not failed.success
    assert "retry_at" not in failure_metadata(failed)
    assert stage.run_tags(failed).retry is None


def test_what_a_run_has_cost_stands_in_its_tags(stage: Stage) -> None:
    before = len(stage.demo.control.requests)
    result = stage.run()
    assert result.success
    tags = stage.tags(result)
    assert int(tags["explorer/requests"]) == len(stage.demo.control.requests) - before
    found = {
        event.asset_key.path[-1]: event.materialization.metadata for event in result.get_asset_materialization_events()
    }
    for fact in ("requests", "bytes"):
        assert int(tags[f"explorer/{fact}"]) == sum(int(metadata[fact].value) for metadata in found.values())
