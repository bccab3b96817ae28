"""Shows the start of the platform: a live table in a terminal, lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from explorer_cli.output.terminal import Piece, styled, tell
from explorer_cli.supervision.supervisor import Supervisor
from explorer_cli.supervision.units import State, UnitStatus

LOOK: dict[State, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "starting": ("", "cyan"),
    "ready": ("✓", "green"),
    "unhealthy": ("!", "yellow"),
    "restarting": ("↻", "yellow"),
    "failed": ("✗", "bold red"),
    "stopping": ("", "dim"),
    "stopped": ("·", "dim"),
}
REMIND_S = 10.0


def watch_start(supervisor: Supervisor, console: Console) -> None:
    """Show the parts until all are ready. Raises the errors of `Supervisor.wait_ready`."""
    if console.is_terminal:
        view = _LiveTable(supervisor.snapshot)
        with Live(get_renderable=view.render, console=console, refresh_per_second=5):
            supervisor.wait_ready()
        return
    seen: dict[str, State] = {}
    reminded = time.monotonic()
    done = False
    while not done:
        try:
            done = supervisor.wait_ready(timeout_s=0.2)
        finally:
            units = supervisor.snapshot()
            for unit in units:
                if seen.get(unit.name) != unit.state and unit.state != "waiting":
                    seen[unit.name] = unit.state
                    tell(console, *line(unit))
                    reminded = time.monotonic()
        if time.monotonic() - reminded > REMIND_S:
            reminded = time.monotonic()
            busy = ", ".join(f"{unit.title} {unit.elapsed_s:.0f} s" for unit in units if unit.state == "starting")
            tell(console, f"  ... still starting: {busy}", style="dim")


def watch_stop(supervisor: Supervisor, console: Console) -> None:
    """Stop everything and show which part is still running."""
    began = time.monotonic()
    # Stop also when nothing can be shown because the disk is full or the terminal is gone.
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if console.is_terminal:
                status = stack.enter_context(console.status(styled("Stopping ...")))
                supervisor.on_change = lambda unit: status.update(styled(f"Stopping: {unit.title} ..."))
            else:
                supervisor.on_change = lambda unit: None
                tell(console, "Stopping ...")
        supervisor.stop()
    with contextlib.suppress(OSError):
        tell(console, f"Stopped in {time.monotonic() - began:.1f} s. All data are kept.", style="dim")


def line(unit: UnitStatus) -> list[Piece]:
    """One unit in one line, for logs and for changes after the start."""
    mark, style = LOOK[unit.state]
    parts: list[Piece] = [(f"{mark or '…'} ", style), f"{unit.title:<22} ", (unit.state, style)]
    if unit.state == "ready":
        parts.append((f" after {unit.elapsed_s:.1f} s", "dim"))
        parts.append(f"  {unit.address}" if unit.address else "")
    if unit.note:
        parts.append((f"  {unit.note}", "yellow"))
    return parts


class _LiveTable:
    def __init__(self, snapshot: Callable[[], Sequence[UnitStatus]]) -> None:
        self._snapshot = snapshot
        self._spinner = Spinner("dots", style="cyan")

    def render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for unit in self._snapshot():
            mark, style = LOOK[unit.state]
            time_text = styled(f"{unit.elapsed_s:6.1f} s" if unit.elapsed_s >= 0.05 else "", style="dim")
            detail = styled(unit.note, style="yellow") if unit.note else styled(unit.address or "")
            state = styled("" if unit.state == "ready" else unit.state, style=style)
            look = styled(mark, style=style) if mark else self._spinner
            table.add_row(look, styled(unit.title), time_text, state, detail)
        return table
