"""Starts the platform's parts in order, watches, restarts and stops them; the only owner of a HOME.

It knows units only: `explorer_cli.platform` defines their names, how they start and when they are ready. One supervisor per
HOME holds `HOME/run/up.lock`. It records its processes in `HOME/run/state.json` with pid and start time, so that after a kill
the next supervisor can find and end them.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explorer.core.errors import ExplorerError
from explorer.core.home import HomeNotUsable
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import clear_state
from explorer_cli.errors import PartFailed
from explorer_cli.supervision.leftovers import STRAY_GRACE_S, mark_of
from explorer_cli.supervision.lock import BEAT_S, LOCK_FILE, Lock
from explorer_cli.supervision.logs import rotate
from explorer_cli.supervision.processes import stop_children, stop_marked
from explorer_cli.supervision.state_file import StateFile
from explorer_cli.supervision.transitions import Transitions, log_of, words
from explorer_cli.supervision.units import Part, State, Step, Unit, UnitStatus

TICK_S = 0.1
ROTATE_INTERVAL_S = 60.0
# Smaller steps of the clock are made daily, and cost no more than they are long. A machine that slept is ahead too.
CLOCK_SET_S = 5.0
# A stop takes seconds even when parts hang: first the parts that answer clients, then the others together, then the rest.
FIRST_GRACE_S = 1.0
STOP_GRACE_S = 3.0
THREAD_GRACE_S = 1.0

log = logging.getLogger(__name__)


class Supervisor:
    """Starts units as soon as the units that they need are ready, restarts parts that die, repeats steps whose work was undone,
    and stops in reverse order of the table.

    A part that dies before it was ready fails the start (`wait_ready` raises), unless it is optional. A part that was ready is
    always restarted, with growing delays.
    """

    def __init__(
        self,
        home: Path,
        units: Sequence[Part | Step],
        *,
        lock: Lock,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """`lock` must be held; `facts` go into the state file; `on_change` is called at every change of state."""
        self.on_change: Callable[[UnitStatus], None] = lambda status: None
        self._home = home
        self._units = {unit.name: Unit(unit) for unit in units}
        self._facts: dict[str, Any] = dict(facts or {})
        self._instance = mark_of(home) + secrets.token_hex(8)
        self._lock = lock
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._state_file = StateFile(home, lock)
        self._transitions = Transitions(
            home, self._instance, self._units, self._facts, change=self._set, fail=self._fail
        )
        self._failure: ExplorerError | None = None
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")

    def start(self) -> None:
        """Begin to start units; returns at once.

        Raises:
            HomeNotUsable: the state cannot be written.
        """
        self._state_file.write(self._state())
        if self._state_file.problem:
            raise HomeNotUsable(
                f"The state folder {self._home} cannot be written: {self._state_file.problem}.",
                next_step="Make room there, or set EXPLORER_HOME to a folder that this account can write.",
            )
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, names: Sequence[str] | None = None, timeout_s: float | None = None) -> bool:
        """Wait until these units (default: all) are ready and optional ones were tried; False when the time is over first.

        Raises:
            PartFailed: a part did not come up. Also the error of a failed step.
        """
        wanted = [self._units[name] for name in (names if names is not None else self._units)]
        with self._changed:
            self._changed.wait_for(lambda: self._failure or all(unit.settled for unit in wanted), timeout_s)
        if self._failure:
            raise self._failure
        return all(unit.settled for unit in wanted)

    def wait_failed(self) -> None:
        """Wait for a failure that no restart can fix, and raise it; only a signal's exception ends it earlier."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None)
        if self._failure:
            raise self._failure

    def snapshot(self) -> list[UnitStatus]:
        """The state of every unit, in the order of the table."""
        now = time.monotonic()
        return [unit.status(now) for unit in self._units.values()]

    def fact(self, name: str) -> Any:
        """The fact that a step reported under this name."""
        return self._facts.get(name)

    def stop(self) -> None:
        """Stop all parts and undo all steps, last first; returns when nothing runs. May be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(THREAD_GRACE_S)
            self._thread = None
            parts = [(unit, unit.spec) for unit in self._units.values() if isinstance(unit.spec, Part)]
            self._stop_parts([unit for unit, part in parts if part.stops_first], FIRST_GRACE_S)
            self._stop_parts([unit for unit, part in parts if not part.stops_first], STOP_GRACE_S)
            stop_marked(self._instance, STRAY_GRACE_S)
            for unit in reversed(self._units.values()):
                if isinstance(unit.spec, Step):
                    self._undo(unit, unit.spec)
            clear_state(self._home)
        self._lock.release()

    def _watch(self) -> None:
        """The supervisor's thread. When it ends unexpectedly everything is stopped and the error shown, as when a part fails."""
        try:
            self._loop()
        except BaseException as error:
            with contextlib.suppress(Exception):
                log.critical("The supervision ended", exc_info=error)
            self._give_up(
                PartFailed(
                    f"The supervision of the parts ended: {words(error)}.",
                    next_step=f"Read {self._home / 'logs' / 'explorer.log'} and start again; report it if you find no cause.",
                )
            )

    def _loop(self) -> None:
        next_beat = next_rotation = 0.0
        ahead = clock_ahead()
        while not self._stopping.wait(TICK_S):
            if not self._lock.intact():
                # Do not start again: that would make an empty HOME in place of the one that was moved or deleted.
                self._give_up(
                    HomeNotUsable(
                        f"{self._home / LOCK_FILE} was removed or replaced while the platform ran.",
                        next_step="Bring the folder back, or start anew with `explorer up`.",
                    )
                )
                return
            if abs(step := clock_ahead() - ahead) > CLOCK_SET_S:
                self._start_clock_waiters_again(f"the clock was set by {step:+.0f} s")
            ahead += step
            now = time.monotonic()
            if now > next_beat:
                next_beat = now + BEAT_S
                self._lock.beat()
                if self._state_file.is_stale():
                    self._state_file.write(self._state())
            for unit in self._units.values():
                if self._failure is None or unit.state != "waiting":
                    self._attend(unit)
            if now > next_rotation:
                next_rotation = now + ROTATE_INTERVAL_S
                for unit in self._units.values():
                    with contextlib.suppress(OSError):
                        rotate(log_of(self._home, unit))

    def _start_clock_waiters_again(self, why: str) -> None:
        for unit in self._units.values():
            if isinstance(unit.spec, Part) and unit.spec.waits_by_clock and unit.process is not None:
                self._transitions.start_again(unit, why)

    def _attend(self, unit: Unit) -> None:
        """An error of one unit does not stop work on the others or later attempts."""
        try:
            self._transitions.advance(unit)
        except Exception as error:
            note = f"cannot be looked after: {words(error)}"
            if unit.note != note:
                unit.note = note
                log.exception("%s cannot be looked after", unit.spec.name)

    def _give_up(self, error: ExplorerError) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _fail(self, unit: Unit, error: ExplorerError) -> None:
        unit.note = error.message
        log.error("%s", error.message)
        self._failure = self._failure or error
        self._set(unit, "failed")

    def _stop_parts(self, units: Sequence[Unit], grace_s: float) -> None:
        running = []
        for unit in units:
            if unit.process is not None and isinstance(unit.spec, Part):
                running.append((unit.process, unit.spec.stop_signal))
                self._set(unit, "stopping")
        for pid in stop_children(running, grace_s):
            log.warning("process %s did not end within %g s and was killed", pid, grace_s)
        for unit in units:
            unit.forget_process()
            self._set(unit, "stopped")

    def _undo(self, unit: Unit, step: Step) -> None:
        if unit.state != "waiting":
            self._set(unit, "stopping")
            try:
                step.undo()
            except Exception:
                log.exception("%s could not be undone", step.name)
        unit.job = None
        self._set(unit, "stopped")

    def _set(self, unit: Unit, state: State) -> None:
        with self._changed:
            unit.state = state
            self._state_file.write(self._state())
            self._changed.notify_all()
        try:
            self.on_change(unit.status(time.monotonic()))
        except Exception as error:
            # The listener may write to a full disk or to a closed terminal.
            log.warning("A change of %s could not be told: %s", unit.spec.name, words(error))

    def _state(self) -> dict[str, Any]:
        """The content of the state file."""
        me, now = ProcessIdentity.current(), time.monotonic()
        units = list(self._units.values())
        return {
            **self._facts,
            "instance": self._instance,
            "supervisor": {"pid": me.pid, "started": me.started},
            "started_at": self._started_at,
            "ready": all(unit.settled for unit in units),
            "pids": {unit.spec.name: unit.identity.pid for unit in units if unit.identity},
            "processes": {unit.spec.name: unit.describe(now) for unit in units},
        }


def clock_ahead() -> float:
    """Seconds that the machine's clock is ahead of one that nobody sets."""
    return time.time() - time.monotonic()
