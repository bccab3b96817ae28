"""Which tenants' schemas does the nightly job drop, and what brings them back?"""

import time
from datetime import datetime, tzinfo
from typing import Any

import dagster as dg
import pytest

from explorer.catalog import AuditEntry, State
from explorer.contract.tags import RunTags
from explorer.core.settings import get_settings
from explorer_dagster.resources import Platform
from explorer_dagster.turns import maintenance
from tests.explorer_dagster.conftest import Stage

DAYS = 2


class Later(datetime):
    """After more days than an unused tenant is kept."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Later":
        return cls.fromtimestamp(time.time() + (DAYS + 1) * 86_400, tz)


@pytest.fixture
def idle(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A synced tenant that was registered ten days ago, where two days are the limit."""
    assert stage.run("cases").success
    monkeypatch.setenv("EXPLORER_IDLE_SCHEMA_DAYS", str(DAYS))
    get_settings.cache_clear()
    with stage.pg_server.connections.admin.connect(autocommit=True) as admin:
        admin.execute(
            "UPDATE catalog.tenants SET created_at = now() - interval '10 days' WHERE id = %s", [stage.tenant.id]
        )
    return stage


def expired(stage: Stage) -> Any:
    """The keys that a night's run tells."""
    result = dg.materialize([maintenance.retention], instance=stage.instance, resources={"platform": Platform()})
    [event] = result.get_asset_materialization_events()
    return event.materialization.metadata["schemas_expired"].value


def test_what_somebody_asked_or_waits_for_stays(idle: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # The command that registered it named it a moment ago.
    assert expired(idle) == []
    monkeypatch.setattr(maintenance, "datetime", Later)
    tags = RunTags(partition_key=idle.tenant.key).to_tags()
    at_work = idle.instance.create_run_for_job(
        dg.GraphDefinition("g").to_job("one"), tags=tags, status=dg.DagsterRunStatus.STARTED
    )
    assert expired(idle) == []
    idle.instance.report_run_canceled(at_work)
    monkeypatch.setenv("EXPLORER_AUDIT_RETENTION_DAYS", "1")
    get_settings.cache_clear()
    # The trail has no calls of two days.
    assert expired(idle) == []
    monkeypatch.setenv("EXPLORER_AUDIT_RETENTION_DAYS", "0")
    monkeypatch.setenv("EXPLORER_IDLE_SCHEMA_DAYS", "0")
    get_settings.cache_clear()
    assert expired(idle) == []
    assert idle.catalog.schemas.get(idle.tenant).state is State.ACTIVE


def test_what_nobody_asked_goes_and_the_next_run_brings_all_of_it(idle: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rows = idle.catalog.schemas.get(idle.tenant), idle.rows("raw_cases")
    assert rows > 0
    # A look or a run of a schedule is nobody's question; the expiry's own entries are not, either.
    idle.catalog.audit.append(AuditEntry(maintenance.EXPIRY, "expire_schema", idle.tenant.key, "ok"))
    monkeypatch.setattr(maintenance, "datetime", Later)
    assert expired(idle) == [idle.tenant.key]
    gone = idle.catalog.schemas.get(idle.tenant)
    assert (gone.state, gone.is_gone_for_now) == (State.ABSENT, True)
    assert expired(idle) == []
    # What is loaded again is everything, though the run was not asked for it.
    assert idle.run("cases").success
    after = idle.catalog.schemas.get(idle.tenant)
    assert (after.state, after.is_gone_for_now, idle.rows("raw_cases")) == (State.ACTIVE, False, rows)
    assert after.prefix != before.prefix
