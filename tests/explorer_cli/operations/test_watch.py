"""`status --watch`: what a person sees of parts, queue, runs and alerts."""

from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console

from explorer.catalog.coordination.alerts import Alert
from explorer.contract.tags import RunTags
from explorer_cli.operations.watch import AtWork, Overview, shown
from mcp_bridge.clients.dagster.records import Run, RunStatus


def run(tenant: str, status: RunStatus, minutes: float) -> Run:
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    return Run("r", "commcare_sync", status, RunTags(partition_key=tenant, run_class="waited_for"), at, at, None)


def text_of(overview: Overview) -> str:
    stream = StringIO()
    Console(file=stream, width=140, markup=False).print(shown(overview))
    return stream.getvalue()


def test_each_part_run_and_alert_is_told_and_escapes_of_others_do_nothing() -> None:
    bridge = {
        "title": "MCP bridge",
        "state": "ready",
        "address": "http://127.0.0.1:8100/mcp",
        "note": "",
        "restarts": 2,
    }
    status = {"running": True, "home": "/h", "problem": None, "processes": {"bridge": bridge}}
    alert = Alert(
        "k", "failure", "critical", "c", "www:b fails: \x1b[2Jbad key [red]", "Give another.", datetime.now(UTC)
    )
    told = text_of(
        Overview(
            status,
            [run("www:q", "QUEUED", 75)],
            [AtWork(run("www:a", "STARTED", 2.5), 0.5, "raw/cases: 450 of 900 rows")],
            [alert],
            ["The catalog does not answer."],
        )
    )
    for words in (
        "MCP bridge", "restarted 2 times", "1 runs, of which somebody waits for 1; the oldest since 1 h ",
        "www:a", "2 min ", "raw/cases: 450 of 900 rows", "failure", "[red] Give another.", "Unknown: The catalog",
    ):  # fmt: skip
        assert words in told, told
    assert "\x1b[2J" not in told


def test_an_idle_platform_and_one_that_does_not_run_are_told_in_words() -> None:
    part = {"title": "MCP bridge", "state": "ready", "address": None, "note": "", "restarts": 0}
    idle = text_of(Overview({"running": True, "home": "/h", "problem": None, "processes": {"bridge": part}}))
    assert "Queue: empty" in idle
    assert "Runs: none at work" in idle
    assert "Wrong: nothing" in idle
    assert "Nothing runs under /h" in text_of(Overview({"running": False, "home": "/h", "processes": {}}))
