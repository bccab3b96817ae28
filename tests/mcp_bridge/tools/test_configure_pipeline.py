"""When a tenant is updated by itself, and how old its tables may be, is chosen by whoever may, and told to all readers."""

from mcp.client import Client

from tests.mcp_bridge.stage import Stage, ask, on_http, refused

PIPELINE = "commcare_sync"


def test_turns_and_a_target_are_chosen_shown_and_taken_back(stage: Stage, bridge_url: str) -> None:
    tenant = stage.tenants["demo:second"]
    token = stage.token("planner", tenant.key)

    async def work(client: Client) -> None:
        error = await refused(client, "configure_pipeline")
        assert (error["code"], "fresh_within_minutes" in error["next_step"]) == ("invalid_argument", True)
        assert (await refused(client, "configure_pipeline", cron="often"))["code"] == "schedule_invalid"
        assert (await refused(client, "configure_pipeline", fresh_within_minutes=0))["code"] == "invalid_argument"
        await ask(client, "configure_pipeline", cron="7 3 * * *", timezone="Asia/Kolkata", fresh_within_minutes=90)
        [told] = (await ask(client, "get_schema_status"))["schedules"]
        assert (told["cron"], told["timezone"], told["fresh_within_s"]) == ("7 3 * * *", "Asia/Kolkata", 5400)
        # Dagster's schedule does not run there, so that nobody is late.
        assert "is_late" not in told
        stopped = await ask(client, "configure_pipeline", stopped=True)
        assert stopped["schedule"]["status"] == "stopped"
        own = await ask(client, "configure_pipeline", reset=True)
        assert "fresh_within_s" not in own["schedule"]
        assert own["schedule"]["cron"] == "0 */6 * * *"

    on_http(bridge_url, token, work)
    kept = stage.catalog.syncs.of(tenant, PIPELINE)
    assert (kept.cron, kept.fresh_within_minutes, kept.is_stopped) == (None, None, False)
    outcomes = [each.entry.outcome for each in stage.catalog.audit.read(actor="planner", tenant=tenant.key)
                if each.entry.action == "configure_pipeline"]  # fmt: skip
    assert outcomes.count("ok") >= 3
