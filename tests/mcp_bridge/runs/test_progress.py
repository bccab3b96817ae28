"""The progress of a run for a waiting caller: it only grows, and each line says what was done."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from mcp_bridge.clients.dagster.records import RunEvent
from mcp_bridge.runs.progress import ProgressLines, ProgressSender

CASES, FORMS = ("commcare", "raw", "cases"), ("commcare", "raw", "forms")


def event(kind: str, key: tuple[str, ...] | None = None, **metadata: Any) -> RunEvent:
    return RunEvent(kind, datetime.now(UTC), "", "INFO", step_key="load", asset_key=key, metadata=metadata)


PLANNED = [event("AssetMaterializationPlannedEvent", key) for key in (CASES, FORMS)]


def test_lines_say_how_far_each_asset_is() -> None:
    lines = ProgressLines()
    assert [lines.line(planned) for planned in PLANNED] == [None, None]
    assert lines.total == 2
    assert lines.line(event("ObservationEvent", CASES, rows=450, expected=600)) == "raw/cases: 450 of 600 rows"
    assert lines.progress == 0.75
    # A server that corrects its total downwards takes nothing back.
    assert lines.line(event("ObservationEvent", CASES, rows=460, expected=1000)) == "raw/cases: 460 of 1000 rows"
    assert lines.progress == 0.75
    assert lines.line(event("MaterializationEvent", CASES, **{"dagster/row_count": 600})) == "raw/cases: 600 rows"
    assert lines.progress == 1
    assert lines.line(event("RunSuccessEvent")) == "run succeeded"
    assert lines.line(event("EngineEvent")) is None


def test_a_summary_tells_the_last_line() -> None:
    assert ProgressLines().last_line([*PLANNED, event("RunStartEvent"), event("EngineEvent")]) == "run started"
    assert ProgressLines().last_line(PLANNED) is None


def test_each_notification_has_a_greater_number_and_none_beyond_its_total() -> None:
    sent: list[tuple[float, float | None, str]] = []

    async def send(progress: float, total: float | None, line: str) -> None:
        sent.append((progress, total, line))

    async def work() -> None:
        sender = ProgressSender(send)
        await sender.send([event("RunStartEvent"), *PLANNED, event("ExecutionStepStartEvent")])
        await sender.send([event("MaterializationEvent", key) for key in (CASES, FORMS)])
        await sender.send([event("RunSuccessEvent")])

    asyncio.run(work())
    assert [line for *_, line in sent] == [
        "run started",
        "load: started",
        "raw/cases: done",
        "raw/forms: done",
        "run succeeded",
    ]
    numbers = [number for number, *_ in sent]
    assert numbers == sorted(set(numbers))
    assert all(total is None or number <= total for number, total, _ in sent)
