"""How the parts of the platform are started in order, watched, restarted and stopped; the one owner of a HOME.

Knows parts, not the platform: what they are called, how they are started and when they count as ready is told by
`parts`. One supervisor per HOME holds `HOME/run/up.lock`; what it started stands in `HOME/run/state.json` with pid and
start time, so that a supervisor that was killed leaves nothing behind that the next one could not find and end.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from explorer.core.errors import ExplorerError
from explorer.core.home import HomeNotUsable
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import clear_state, read_state, write_state
from explorer_cli.errors import PartFailed
from explorer_cli.home import BEAT_S, LOCK_FILE, Lock
from explorer_cli.processes import (
    MARK,
    rotate,
    spawn,
    stop_child,
    stop_children,
    stop_marked,
    stop_strangers,
    tail,
)

TICK_S = 0.1
HEALTH_INTERVAL_S = 10.0
START_INTERVAL_S = 0.5
UNHEALTHY_INTERVAL_S = 2.0
ROTATE_INTERVAL_S = 60.0
RESTART_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STABLE_AFTER_S = 60.0
# To stop everything takes seconds, whatever hangs: the parts that answer clients first, the others together, then what is left.
FIRST_GRACE_S = 1.0
STOP_GRACE_S = 3.0
STRAY_GRACE_S = 0.5
LEFTOVERS_GRACE_S = 2.0
THREAD_GRACE_S = 1.0
# A probe that has said nothing for so long has failed.
PROBE_TIMEOUT_S = 15.0
# The loop that watches all parts waits this long for one that hangs while it starts.
HANGING_GRACE_S = 2.0

State = Literal["waiting", "starting", "ready", "unhealthy", "restarting", "failed", "stopping", "stopped"]
Probe = Callable[[], object]

log = logging.getLogger(__name__)


class Hindered(ExplorerError):
    """A part is there, but something keeps it from its work that no restart mends; raised by its probe, with the reason."""

    code = "part_hindered"


@dataclass(frozen=True)
class Part:
    """A process to keep running. `ready` answers within a few seconds; it also tells health later. An ExplorerError that it
    raises says why not.

    What is `optional` has a fallback: that it does not come up is shown and tried again, and keeps nobody waiting.
    """

    name: str
    title: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    ready: Probe
    needs: tuple[str, ...] = ()
    address: str | None = None
    start_timeout_s: float = 120.0
    stop_signal: int = signal.SIGTERM
    health_interval_s: float = HEALTH_INTERVAL_S
    optional: bool = False
    # What others are to be asked for while it stops.
    stops_first: bool = False


@dataclass(frozen=True)
class Step:
    """Something done once in this process before parts can start; `undo` runs when everything else has stopped.

    `run` returns facts for the state file (addresses; no secrets).
    """

    name: str
    title: str
    run: Callable[[], Mapping[str, Any]]
    undo: Callable[[], object] = lambda: None
    ready: Probe = lambda: True
    needs: tuple[str, ...] = ()
    health_interval_s: float = HEALTH_INTERVAL_S


@dataclass(frozen=True)
class UnitStatus:
    """What is known of one part or step now. `elapsed_s` counts from its start until it was ready."""

    name: str
    title: str
    state: State
    address: str | None
    pid: int | None
    restarts: int
    elapsed_s: float
    note: str


def stop_leftovers(home: Path, grace_s: float = LEFTOVERS_GRACE_S) -> list[str]:
    """End what a supervisor that is gone left running under `home`; the names of the parts that were found."""
    state = read_state(home)
    known = {
        name: ProcessIdentity(int(process["pid"]), str(process["started"]))
        for name, process in (state.get("processes") or {}).items()
        if process.get("pid") and process.get("started")
    }
    stopped = stop_strangers(list(known.values()), grace_s)
    found = [name for name, there in zip(known, stopped, strict=True) if there]
    # The state may be lost or damaged: whatever was started under this HOME carries its mark. Older versions' marks did not tell.
    strays = [
        pid for mark in {_mark_of(home), state.get("instance")} if mark for pid in stop_marked(mark, STRAY_GRACE_S)
    ]
    if strays and not found:
        found.append("runs")
    clear_state(home)
    return found


def _mark_of(home: Path) -> str:
    """What the marks of all supervisors of this HOME begin with."""
    return f"{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]}-"


class _Unit:
    """One part or step and what has happened to it; touched by the supervisor's thread only."""

    def __init__(self, spec: Part | Step) -> None:
        self.spec = spec
        self.state: State = "waiting"
        self.process: subprocess.Popen[bytes] | None = None
        self.identity: ProcessIdentity | None = None
        self.job: Future[Any] | None = None
        self.asked_at = 0.0
        self.began = self.ready_at = self.next_check = self.restart_at = 0.0
        self.restarts = 0
        self.failures_in_row = 0
        self.note = ""

    @property
    def optional(self) -> bool:
        return isinstance(self.spec, Part) and self.spec.optional

    @property
    def settled(self) -> bool:
        """Whether nobody has to wait for it any more."""
        return self.state == "ready" or (self.optional and self.restarts > 0)

    def status(self, now: float) -> UnitStatus:
        end = self.ready_at if self.ready_at >= self.began else now
        return UnitStatus(
            self.spec.name,
            self.spec.title,
            self.state,
            self.spec.address if isinstance(self.spec, Part) else None,
            self.identity.pid if self.identity else None,
            self.restarts,
            end - self.began if self.began else 0.0,
            self.note,
        )


class Supervisor:
    """Starts units as soon as what they need is ready, restarts parts that die, repeats steps whose work was undone, stops
    in reverse order of the table.

    A part that dies before it was ever ready fails the start (`wait_ready` raises), unless it is optional; afterwards it is
    restarted for ever, with growing delays.
    """

    def __init__(
        self,
        home: Path,
        units: Sequence[Part | Step],
        *,
        lock: Lock,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """`lock` is held already; `facts` go into the state file; `on_change` may be set to hear of every change of state."""
        self.on_change: Callable[[UnitStatus], None] = lambda status: None
        self._home = home
        self._units = {unit.name: _Unit(unit) for unit in units}
        self._facts: dict[str, Any] = dict(facts or {})
        self._instance = _mark_of(home) + secrets.token_hex(8)
        self._lock = lock
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._unwritten: str | None = None
        self._written: dict[str, Any] = {}
        self._failure: ExplorerError | None = None
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")

    def start(self) -> None:
        """Begin to start units; returns at once.

        Raises:
            HomeNotUsable: the state cannot be written.
        """
        self._write_state()
        if self._unwritten:
            raise HomeNotUsable(
                f"The state folder {self._home} cannot be written: {self._unwritten}.",
                next_step="Make room there, or set EXPLORER_HOME to a folder that this account can write.",
            )
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, names: Sequence[str] | None = None, timeout_s: float | None = None) -> bool:
        """Wait until these units (all, if not told) are ready, optional ones at least tried; False when the time is over first.

        Raises:
            PartFailed: a part did not come up; whatever error a step raised.
        """
        wanted = [self._units[name] for name in (names if names is not None else self._units)]
        with self._changed:
            self._changed.wait_for(lambda: self._failure or all(unit.settled for unit in wanted), timeout_s)
        if self._failure:
            raise self._failure
        return all(unit.settled for unit in wanted)

    def wait_failed(self) -> None:
        """Wait for something that cannot be mended by a restart. Raises it; returns only through a signal's exception."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None)
        if self._failure:
            raise self._failure

    def snapshot(self) -> list[UnitStatus]:
        """The state of every unit, in the order of the table."""
        now = time.monotonic()
        return [unit.status(now) for unit in self._units.values()]

    def fact(self, name: str) -> Any:
        """What a step reported under this name."""
        return self._facts.get(name)

    def stop(self) -> None:
        """Stop all parts and undo all steps, last ones first; returns when nothing runs any more. May be called twice."""
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
        """The supervisor's thread. That it ends by itself is a failure like that of a part: everything is stopped and said."""
        try:
            self._loop()
        except BaseException as error:
            with contextlib.suppress(Exception):
                log.critical("The supervision ended", exc_info=error)
            self._give_up(
                PartFailed(
                    f"The supervision of the parts ended: {_words(error)}.",
                    next_step=f"Read {self._home / 'logs' / 'explorer.log'} and start again; report it if you find no cause.",
                )
            )

    def _loop(self) -> None:
        next_beat = next_rotation = 0.0
        while not self._stopping.wait(TICK_S):
            if not self._lock.intact():
                # Not to be begun anew: that would be an empty HOME in the place of the one that was taken away.
                self._give_up(
                    HomeNotUsable(
                        f"{self._home / LOCK_FILE} was removed or replaced while the platform ran.",
                        next_step="Bring the folder back, or start anew with `explorer up`.",
                    )
                )
                return
            now = time.monotonic()
            if now > next_beat:
                next_beat = now + BEAT_S
                self._lock.beat()
                if self._unwritten or read_state(self._home) != self._written:
                    self._write_state()
            for unit in self._units.values():
                if self._failure is None or unit.state != "waiting":
                    self._attend(unit)
            if now > next_rotation:
                next_rotation = now + ROTATE_INTERVAL_S
                for unit in self._units.values():
                    with contextlib.suppress(OSError):
                        rotate(self._log(unit))

    def _attend(self, unit: _Unit) -> None:
        """Nothing that goes wrong with one unit keeps the supervisor from the others, or from trying again."""
        try:
            self._advance(unit)
        except Exception as error:
            note = f"cannot be looked after: {_words(error)}"
            if unit.note != note:
                unit.note = note
                log.exception("%s cannot be looked after", unit.spec.name)

    def _give_up(self, error: ExplorerError) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _advance(self, unit: _Unit) -> None:
        now = time.monotonic()
        if unit.state == "waiting":
            if all(self._units[name].state == "ready" for name in unit.spec.needs):
                self._begin(unit)
        elif unit.state == "restarting":
            if now >= unit.restart_at:
                self._begin(unit)
        elif unit.process is not None and unit.process.poll() is not None:
            self._died(unit)
        elif unit.state in ("starting", "ready", "unhealthy"):
            self._check(unit, now)

    def _begin(self, unit: _Unit) -> None:
        unit.began = time.monotonic()
        unit.next_check = unit.began
        if isinstance(unit.spec, Step):
            unit.job = _in_background(unit.spec.run)
        else:
            env = {**unit.spec.env, MARK: self._instance}
            try:
                unit.process = spawn(unit.spec.argv, env=env, cwd=self._home / "run", log=self._log(unit))
            except OSError as error:
                self._lost(unit, f"could not be started ({_words(error)})")
                return
            unit.identity = ProcessIdentity.of(unit.process.pid)
        self._set(unit, "starting")

    def _check(self, unit: _Unit, now: float) -> None:
        if unit.job is None:
            if now >= unit.next_check:
                unit.job, unit.asked_at = _in_background(unit.spec.ready), now
            return
        runs_step = unit.state == "starting" and isinstance(unit.spec, Step)
        if unit.job.done() or (now - unit.asked_at > PROBE_TIMEOUT_S and not runs_step):
            job, unit.job = unit.job, None
            if runs_step:
                self._step_done(unit, job)
            else:
                self._probed(unit, job, now)
            unit.next_check = now + {"starting": START_INTERVAL_S, "unhealthy": UNHEALTHY_INTERVAL_S}.get(
                unit.state, unit.spec.health_interval_s
            )
        elif unit.state == "starting":
            self._check_deadline(unit, now)

    def _step_done(self, unit: _Unit, job: "Future[Any]") -> None:
        error = job.exception()
        if error is None:
            self._facts.update(job.result())
            unit.ready_at = time.monotonic()
            unit.note = ""
            self._set(unit, "ready")
        elif unit.restarts:
            self._restart(unit, f"failed again: {_words(error)}")
        elif isinstance(error, ExplorerError):
            self._fail(unit, error)
        else:
            log.error("%s failed", unit.spec.name, exc_info=error)
            self._fail(
                unit,
                PartFailed(
                    f"{unit.spec.title} failed: {type(error).__name__}.",
                    next_step=f"Read {self._home / 'logs' / 'explorer.log'}, mend the cause it names and start again.",
                ),
            )

    def _probed(self, unit: _Unit, job: "Future[Any]", now: float) -> None:
        """`job`: the probe, which has answered, or did not in time."""
        error = job.exception() if job.done() else None
        healthy = job.done() and error is None and bool(job.result())
        if healthy and unit.state != "ready":
            unit.ready_at = now if unit.state == "starting" else unit.ready_at
            unit.note = ""
            self._set(unit, "ready")
        elif not healthy and unit.state in ("ready", "unhealthy"):
            why = _words(error) if isinstance(error, ExplorerError) else "does not answer"
            if (unit.state, unit.note) != ("unhealthy", why):
                unit.note = why
                log.warning("%s: %s", unit.spec.name, why)
                self._set(unit, "unhealthy")
            if isinstance(unit.spec, Step) and not isinstance(error, Hindered):
                self._restart(unit, why)
        elif unit.state == "starting":
            self._check_deadline(unit, now)
        if unit.state == "ready" and now - unit.ready_at > STABLE_AFTER_S:
            unit.failures_in_row = 0

    def _check_deadline(self, unit: _Unit, now: float) -> None:
        if not isinstance(unit.spec, Part) or now - unit.began <= unit.spec.start_timeout_s:
            return
        how = f"was not ready after {unit.spec.start_timeout_s:g} s"
        if unit.process is not None and (unit.restarts or unit.optional):
            stop_child(unit.process, unit.spec.stop_signal, HANGING_GRACE_S)
            unit.process, unit.identity, unit.job = None, None, None
        self._lost(unit, how)

    def _died(self, unit: _Unit) -> None:
        assert unit.process is not None  # noqa: S101
        assert isinstance(unit.spec, Part)  # noqa: S101
        code = unit.process.returncode
        stop_child(unit.process, unit.spec.stop_signal, 0.0)
        unit.process, unit.identity, unit.job = None, None, None
        how = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if unit.state == "starting":
            self._lost(unit, how)
        else:
            self._restart(unit, how)

    def _lost(self, unit: _Unit, how: str) -> None:
        """A part that did not come up: what has never run fails the start, the rest is tried again."""
        if not unit.restarts and not unit.optional:
            self._fail(unit, self._part_failed(unit, how))
        else:
            self._restart(unit, how)

    def _restart(self, unit: _Unit, why: str) -> None:
        delay_s = RESTART_DELAYS_S[min(unit.failures_in_row, len(RESTART_DELAYS_S) - 1)]
        unit.restarts += 1
        unit.failures_in_row += 1
        unit.restart_at = time.monotonic() + delay_s
        unit.note = f"{why}, restarted in {delay_s:g} s"
        log.warning("%s %s", unit.spec.name, unit.note)
        self._set(unit, "restarting")

    def _part_failed(self, unit: _Unit, how: str) -> PartFailed:
        return PartFailed(
            f"{unit.spec.title} {how}.",
            next_step=f"Read {self._log(unit)}, mend the cause it names and start again; `explorer doctor` may know it.",
            details={"part": unit.spec.name, "log": tail(self._log(unit))},
        )

    def _fail(self, unit: _Unit, error: ExplorerError) -> None:
        unit.note = error.message
        log.error("%s", error.message)
        self._failure = self._failure or error
        self._set(unit, "failed")

    def _stop_parts(self, units: Sequence[_Unit], grace_s: float) -> None:
        running = []
        for unit in units:
            if unit.process is not None and isinstance(unit.spec, Part):
                running.append((unit.process, unit.spec.stop_signal))
                self._set(unit, "stopping")
        for pid in stop_children(running, grace_s):
            log.warning("process %s did not end within %g s and was killed", pid, grace_s)
        for unit in units:
            unit.process, unit.identity, unit.job = None, None, None
            self._set(unit, "stopped")

    def _undo(self, unit: _Unit, step: Step) -> None:
        if unit.state != "waiting":
            self._set(unit, "stopping")
            try:
                step.undo()
            except Exception:
                log.exception("%s could not be undone", step.name)
        unit.job = None
        self._set(unit, "stopped")

    def _set(self, unit: _Unit, state: State) -> None:
        with self._changed:
            unit.state = state
            self._write_state()
            self._changed.notify_all()
        try:
            self.on_change(unit.status(time.monotonic()))
        except Exception as error:
            # Whoever listens may write to a full disk or to a terminal that is gone.
            log.warning("A change of %s could not be told: %s", unit.spec.name, _words(error))

    def _write_state(self) -> None:
        """Also when it fails everything goes on: it is tried again at the next beat."""
        if not self._lock.intact():
            return
        state = json.loads(json.dumps(self._state()))
        try:
            write_state(self._home, state)
        except OSError as error:
            if self._unwritten is None:
                log.warning("The state cannot be written: %s", _words(error))
            self._unwritten = _words(error)
        else:
            self._unwritten, self._written = None, state

    def _state(self) -> dict[str, Any]:
        me = ProcessIdentity.current()
        units = list(self._units.values())
        return {
            **self._facts,
            "instance": self._instance,
            "supervisor": {"pid": me.pid, "started": me.started},
            "started_at": self._started_at,
            "ready": all(unit.settled for unit in units),
            "pids": {unit.spec.name: unit.identity.pid for unit in units if unit.identity},
            "processes": {unit.spec.name: self._describe(unit) for unit in units},
        }

    def _describe(self, unit: _Unit) -> dict[str, Any]:
        status = unit.status(time.monotonic())
        return {
            "title": status.title,
            "pid": status.pid,
            "started": unit.identity.started if unit.identity else None,
            "state": status.state,
            "healthy": status.state == "ready",
            "optional": unit.optional,
            "restarts": status.restarts,
            "address": status.address,
            "note": status.note,
        }

    def _log(self, unit: _Unit) -> Path:
        return self._home / "logs" / f"{unit.spec.name}.log"


def _in_background(work: Callable[[], Any]) -> "Future[Any]":
    """Run `work` in a thread of its own, which keeps no process from ending: what it asks may never answer."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="probe", daemon=True).start()
    return future


def _words(error: BaseException) -> str:
    """An error in one line: what it says of itself where that is for people."""
    if isinstance(error, ExplorerError):
        return error.message.rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".rstrip(": ")
