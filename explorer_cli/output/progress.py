"""Progress of runs on stderr: a bar per tenant in a terminal, a line per step elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from mcp.shared.dispatcher import ProgressFnT
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from explorer_cli.output.escapes import visible
from explorer_cli.output.terminal import make_console, tell

LINE_INTERVAL_S = 2.0


class SyncProgress:
    """Bars fed by MCP progress notifications; they stay visible at the end."""

    def __init__(self, tenants: Sequence[str], *, console: Console | None = None, shown: bool = True) -> None:
        self._console = console or make_console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[line]}", style="dim", markup=False),
            console=self._console,
            refresh_per_second=5,
            disable=not shown or not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {
            key: self._bars.add_task(visible(key), total=None, line="waiting") for key in tenants
        }
        self._printed_at = dict.fromkeys(tenants, 0.0)
        self._shown = shown
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def listener(self, key: str) -> ProgressFnT:
        """The progress callback for a tool call."""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            # A repeated call reports the run's progress from the start.
            if progress < (self._bars.tasks[self._tasks[key]].completed or 0.0):
                return
            self._bars.update(self._tasks[key], completed=progress, total=total, line=visible(message or ""))
            self._print(key, message or "", force=False)

        return on_progress

    def finish(self, key: str, status: str) -> None:
        """Fill the bar and show how the run ended."""
        task = self._bars.tasks[self._tasks[key]]
        total = task.total or 1.0
        self._bars.update(
            task.id, total=total, completed=total if status == "SUCCESS" else task.completed, line=status.lower()
        )
        self._print(key, status.lower(), force=True)

    def _print(self, key: str, text: str, *, force: bool) -> None:
        """Print a line where there is no terminal, but not for every step of a fast run."""
        now = time.monotonic()
        if self._shown and not self._console.is_terminal and (force or now - self._printed_at[key] >= LINE_INTERVAL_S):
            self._printed_at[key] = now
            tell(self._console, f"  {now - self._began:5.1f} s  {key}  {text}")
