"""`status --watch`: parts, queue, runs with their progress, and what is wrong, shown again every two seconds."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from explorer.catalog import Catalog
from explorer.catalog.coordination.alerts import Alert
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer_cli.output.terminal import make_console, styled
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.status import describe
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import Run
from mcp_bridge.runs.progress import ProgressLines

_EVERY_S = 2.0
# More than are at work at a time on one machine; of the others only the number is told.
_SHOWN_RUNS = 12
_SHOWN_ALERTS = 12
_QUEUED_COUNTED = 500
_BAR_COLUMNS = 24
_COLOURS = {"ready": "green", "starting": "yellow", "restarting": "yellow", "critical": "bold red", "warning": "yellow"}


@dataclass(frozen=True)
class AtWork:
    """A run that works, with the share that is done, where that is known, and its latest line."""

    run: Run
    share: float | None
    line: str


@dataclass(frozen=True)
class Overview:
    """What is shown. `status`: as `status --json`; `unknown`: why runs or alerts are not told."""

    status: dict[str, Any]
    queued: Sequence[Run] = ()
    at_work: Sequence[AtWork] = ()
    alerts: Sequence[Alert] = ()
    unknown: Sequence[str] = field(default_factory=tuple)


def watch_status(*, once: bool = False) -> int:
    """Show it until Ctrl-C, or once where there is no terminal."""
    settings = open_settings(writable=False)
    console = make_console(stderr=False)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(settings, console, once=once or not console.is_terminal))
    return 0


async def _watch(settings: Settings, console: Console, *, once: bool) -> None:
    async with DagsterClient.from_settings(settings, timeout_s=5.0) as dagster:
        with _catalog(settings) as catalog:
            if once:
                console.print(shown(await look(settings, dagster, catalog)))
                return
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(shown(await look(settings, dagster, catalog)), refresh=True)
                    await asyncio.sleep(_EVERY_S)


async def look(settings: Settings, dagster: DagsterClient, alerts: Callable[[], list[Alert]]) -> Overview:
    """How things are now. What does not answer is told as unknown."""
    status, unknown = await asyncio.to_thread(describe, settings), []
    queued: list[Run] = []
    at_work: list[AtWork] = []
    found: list[Alert] = []
    try:
        queued = await dagster.runs(statuses=["QUEUED"], limit=_QUEUED_COUNTED)
        working = await dagster.runs(statuses=["STARTING", "STARTED", "CANCELING"], limit=_SHOWN_RUNS)
        at_work = [await _progress(dagster, run) for run in working]
    except ExplorerError as error:
        unknown.append(error.message)
    try:
        found = await asyncio.to_thread(alerts)
    except ExplorerError as error:
        unknown.append(error.message)
    return Overview(status, queued, at_work, found, unknown)


def shown(overview: Overview) -> RenderableType:
    """The overview for a terminal."""
    return Group(
        _parts(overview), styled(), _queue(overview.queued), _runs(overview.at_work), styled(), _alerts(overview.alerts),
        *(styled((f"Unknown: {why}", "yellow")) for why in overview.unknown),
    )  # fmt: skip


@contextlib.contextmanager
def _catalog(settings: Settings) -> Iterator[Callable[[], list[Alert]]]:
    """Reads the open alerts; opens the catalog when it can."""
    with contextlib.ExitStack() as stack:
        opened: list[Catalog] = []

        def alerts() -> list[Alert]:
            if not opened:
                opened.append(stack.enter_context(Catalog.open(settings)))
            return opened[0].alerts.open()

        yield alerts


async def _progress(dagster: DagsterClient, run: Run) -> AtWork:
    lines = ProgressLines()
    line = lines.last_line(await dagster.events(run.run_id))
    return AtWork(run, lines.progress / lines.total if lines.total else None, line or run.status.lower())


def _parts(overview: Overview) -> RenderableType:
    status = overview.status
    if not status["running"]:
        return styled((f"Nothing runs under {status['home']}. Start it with `explorer up`.", "yellow"))
    table = _table("Part", "State", "Address", "Note")
    for part in status["processes"].values():
        look = _COLOURS.get(part["state"], "red")
        note = part["note"] or (f"restarted {part['restarts']} times" if part["restarts"] else "")
        table.add_row(styled(part["title"]), styled((part["state"], look)), styled(part["address"] or ""), styled(note))
    problem = styled((f"All is not well: {status['problem']}.", "bold red")) if status["problem"] else None
    return Group(table, problem) if problem else table


def _queue(queued: Sequence[Run]) -> Text:
    if not queued:
        return styled(("Queue: ", "bold"), "empty")
    oldest = min((run.created_at for run in queued if run.created_at), default=None)
    waited = _span((datetime.now(UTC) - oldest).total_seconds()) if oldest else "?"
    many = "+" if len(queued) == _QUEUED_COUNTED else ""
    waiting = sum(run.tags.run_class == "waited_for" for run in queued)
    return styled(
        ("Queue: ", "bold"),
        f"{len(queued)}{many} runs, of which somebody waits for {waiting}; the oldest since {waited}",
    )


def _runs(at_work: Sequence[AtWork]) -> RenderableType:
    if not at_work:
        return styled(("Runs: ", "bold"), "none at work")
    table = _table("Tenant", "Job", "For", "Progress", "")
    for each in at_work:
        run = each.run
        bar = ProgressBar(total=1.0, completed=each.share or 0.0, width=_BAR_COLUMNS, pulse=each.share is None)
        lasted = _span(run.duration_s) if run.duration_s is not None else ""
        table.add_row(styled(run.tenant or ""), styled(run.job), lasted, bar, styled((each.line, "dim")))
    return table


def _alerts(alerts: Sequence[Alert]) -> RenderableType:
    if not alerts:
        return styled(("Wrong: ", "bold"), ("nothing", "green"))
    table = _table("Wrong", "Since", "What, and what to do")
    for alert in alerts[:_SHOWN_ALERTS]:
        since = f"{alert.since.astimezone():%d %b %H:%M}" if alert.since else ""
        said = styled(alert.message, " ", (alert.next_step, "dim"))
        table.add_row(styled((alert.cause, _COLOURS[alert.severity])), since, said)
    more = len(alerts) - _SHOWN_ALERTS
    return Group(table, styled((f"... and {more} more", "dim"))) if more > 0 else table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
