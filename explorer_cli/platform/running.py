"""Starts the platform, keeps it running and stops it, and shows the changes on a console."""

import contextlib
from collections.abc import Iterator

from rich.console import Console

from explorer.core.home import keep_private
from explorer.core.settings import Settings
from explorer_cli.output.terminal import tell
from explorer_cli.platform import display
from explorer_cli.platform.parts import platform_units
from explorer_cli.supervision.interrupts import Interrupts
from explorer_cli.supervision.leftovers import stop_leftovers
from explorer_cli.supervision.lock import Lock
from explorer_cli.supervision.supervisor import Supervisor
from explorer_cli.supervision.units import Step, UnitStatus


@contextlib.contextmanager
def running_platform(
    settings: Settings, console: Console, *, demo: bool, steps: tuple[Step, ...] = ()
) -> Iterator[Supervisor]:
    """A context manager: inside the block everything is ready, after it everything is stopped, also after an error.

    `steps` are added to the table; any signal raises StopRequested in the block.

    Raises:
        AlreadyRunning, PortInUse, HomeNotUsable, PartFailed, and the database's error when it cannot start.
    """
    lock = Lock(settings.home)
    with Interrupts() as interrupts:
        lock.acquire()
        keep_private(settings.home)
        leftovers = stop_leftovers(settings.home)
        try:
            platform = platform_units(settings, demo=demo)
        except BaseException:
            lock.release()
            raise
        if leftovers:
            tell(console, f"Stopped what an earlier run had left behind: {', '.join(leftovers)}.", style="yellow")
        supervisor = Supervisor(settings.home, [*platform.units, *steps], lock=lock, facts=platform.facts)
        try:
            supervisor.start()
            display.watch_start(supervisor, console)
            supervisor.on_change = _Changes(console).tell
            yield supervisor
        finally:
            interrupts.ignore()
            display.watch_stop(supervisor, console)


class _Changes:
    """Shows changes of parts after the start; a failure that repeats is shown once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reported: dict[str, tuple[str, str]] = {}

    def tell(self, unit: UnitStatus) -> None:
        change = (unit.state, unit.note)
        if unit.state in ("ready", "unhealthy", "restarting", "failed") and self._reported.get(unit.name) != change:
            self._reported[unit.name] = change
            tell(self._console, *display.line(unit))
