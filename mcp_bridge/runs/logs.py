"""The log of a run, page by page: what was said from a level on, without what is nobody's business outside of the server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from explorer.contract.names import within_pipeline
from mcp_bridge.answers.envelope import InvalidCursor, clipped, iso, without_nulls
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import Run, RunEvent
from mcp_bridge.runs.summary import without_frame

Level = Literal["debug", "info", "warning", "error"]
_LEVELS: tuple[Level, ...] = get_args(Level)
_MAX_MESSAGE_TOKENS = 200
# Pages of Dagster's that are read for one of ours, where few entries are of the level.
_MAX_POLLS = 20
_NO_TRACE = re.compile(r"\s*(?:Traceback \(most recent call last\)|Stack Trace:).*", re.DOTALL)
_HIDDEN = (
    (re.compile(r"\bpostgres(?:ql)?(?:\+\w+)?://\S+"), "postgresql://***"),
    (re.compile(r"(\w+://)[^\s/@]+@"), r"\1***@"),
    (re.compile(r"(?i)\b(apikey|bearer|basic)(\s+)[^\s'\",;]+"), r"\1\2***"),
    (
        re.compile(
            r"(?i)\b(\w*(?:password|passwd|secret|token|api[-_ ]?key|authorization)\w*)(['\"]?\s*[:=]\s*['\"]?)"
            r"(?!(?:apikey|bearer|basic)\b)[^\s'\",;&]+"
        ),
        r"\1\2***",
    ),
    (re.compile(r"(?<![\w/.:])/(?:home|root|tmp|usr|var|opt|etc|srv|mnt|run|proc)/[^\s'\",;:)]+"), "<path>"),
)


def redacted(text: str) -> str:
    """The text without secrets, logins of databases, paths of the server and stack traces."""
    text = _NO_TRACE.sub("", text)
    for pattern, put in _HIDDEN:
        text = pattern.sub(put, text)
    return text.strip()


@dataclass(frozen=True)
class LogEntry:
    """An entry of an answer, and the place at which a page begins with it."""

    row: dict[str, Any]
    place: str


@dataclass(frozen=True)
class LogPage:
    """`rest`: where the next page begins if all entries are shown; None at the end of the log of a run that has ended."""

    run: Run
    entries: Sequence[LogEntry]
    rest: str | None


async def read_log(dagster: DagsterClient, run_id: str, place: str | None, least: Level, limit: int) -> LogPage:
    """The next entries from a level on. `place`: of an earlier page; None for the beginning.

    Raises:
        InvalidCursor: no page gave this place.
        UnknownRun, DagsterUnavailable.
    """
    skip, cursor = _read_place(place)
    entries: list[LogEntry] = []
    for _ in range(_MAX_POLLS):
        run, events, following, more = await dagster.log_page(run_id, cursor)
        for number, event in enumerate(events[skip:], skip):
            if _LEVELS.index(_level(event)) < _LEVELS.index(least):
                continue
            if len(entries) == limit:
                return LogPage(run, entries, _place(number, cursor))
            entries.append(LogEntry(_row(event), _place(number, cursor)))
        if not more:
            is_over = run.finished and (not events or any(event.ends_the_run for event in events))
            return LogPage(run, entries, None if is_over else _place(len(events), cursor))
        skip, cursor = 0, following
    return LogPage(run, entries, _place(skip, cursor))


def _level(event: RunEvent) -> Level:
    said = event.level.lower()
    return "error" if said == "critical" else next((level for level in _LEVELS if level == said), "info")


def _row(event: RunEvent) -> dict[str, Any]:
    cause = redacted(without_frame(event.error)) if event.error else None
    return without_nulls(
        {
            "at": iso(event.at),
            "level": _level(event),
            "step": event.step_key,
            "asset": within_pipeline(event.asset_key) if event.asset_key else None,
            # Dagster says nothing of some events but what they are.
            "message": clipped(redacted(event.message) or event.kind, _MAX_MESSAGE_TOKENS),
            "cause": clipped(cause, _MAX_MESSAGE_TOKENS) if cause else None,
        }
    )


def _place(skip: int, cursor: str | None) -> str:
    """So many events behind Dagster's cursor: it names the ends of its own pages only."""
    return f"{skip} {cursor or ''}"


def _read_place(place: str | None) -> tuple[int, str | None]:
    if place is None:
        return 0, None
    skip, _, cursor = place.partition(" ")
    if not skip.isdecimal():
        raise InvalidCursor("That is no place in a log.", next_step="Call again without a cursor.")
    return int(skip), cursor or None
