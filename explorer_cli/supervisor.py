"""How the parts of the platform are started in order, watched, restarted and stopped; the one owner of a HOME.

Knows parts, not the platform: what they are called, how they are started and when they count as ready is told by
`parts`. One supervisor per HOME holds `HOME/run/up.lock`; what it started stands in `HOME/run/state.json` with pid and
start time, so that a supervisor that was killed leaves nothing behind that the next one could not find and end.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from explorer_cli.errors import AlreadyRunning, HomeNotUsable, PartFailed
from explorer_cli.processes import MARK, Identity, rotate, spawn, stop_child, stop_marked, stop_stranger, tail
from explorer_dagster.errors import ExplorerError
from explorer_dagster.runtime_state import clear_state, read_state, write_state

LOCK_FILE = Path("run") / "up.lock"
TICK_S = 0.1
HEALTH_INTERVAL_S = 10.0
START_INTERVAL_S = 0.5
UNHEALTHY_INTERVAL_S = 2.0
ROTATE_INTERVAL_S = 60.0
RESTART_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STABLE_AFTER_S = 60.0
ORPHAN_GRACE_S = 10.0
# The loop that watches all parts waits this long for one that hangs while it starts.
HANGING_GRACE_S = 2.0

State = Literal["waiting", "starting", "ready", "unhealthy", "restarting", "failed", "stopping", "stopped"]
Probe = Callable[[], bool]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A process to keep running. `ready` answers within a few seconds and may raise nothing; it also tells health later.

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
    stop_grace_s: float = 10.0
    health_interval_s: float = HEALTH_INTERVAL_S
    optional: bool = False


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


class Lock:
    """`HOME/run/up.lock`: held by the supervisor for its life and released by the kernel when it dies."""

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK_FILE
        self._fd: int | None = None

    def acquire(self) -> None:
        """Become the owner of HOME.

        Raises:
            AlreadyRunning: with the pid of the one who is.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise self._taken() from None
        me = Identity.of(os.getpid())
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps({"pid": me.pid, "started": me.started}).encode())
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def _taken(self) -> AlreadyRunning:
        holder = holder_of(self._path.parent.parent)
        state = read_state(self._path.parent.parent)
        where = f" and serves {state['dagster_url']}" if state.get("dagster_url") else ""
        return AlreadyRunning(
            f"The platform already runs under {self._path.parent.parent}: process {holder.pid if holder else 'unknown'}{where}.",
            next_step="`explorer status` shows it, `explorer down` stops it; EXPLORER_HOME chooses another one.",
            details={"pid": holder.pid if holder else None, "dagster_url": state.get("dagster_url")},
        )


def holder_of(home: Path) -> Identity | None:
    """The supervisor that runs under `home`, None when there is none."""
    try:
        record = json.loads((home / LOCK_FILE).read_text())
        holder = Identity(int(record["pid"]), str(record["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder if holder.alive() else None


def make_home(home: Path) -> None:
    """HOME with its `run` and `logs` folders.

    Raises:
        HomeNotUsable: one of them cannot be made or written.
    """
    try:
        # As root the database's own account must get through to its folder; nobody may list the rest.
        home.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        for name in ("run", "logs"):
            (home / name).mkdir(exist_ok=True, mode=0o700)
            if not os.access(home / name, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(home / name))
    except OSError as error:
        raise HomeNotUsable(
            f"The state folder {home} cannot be used: {error.strerror} ({error.filename}).",
            next_step="Set EXPLORER_HOME to a folder that this account can write.",
        ) from error


def stop_leftovers(home: Path) -> list[str]:
    """End what a supervisor that is gone left running under `home`; the names of the parts that were found."""
    state = read_state(home)
    found = []
    for name, process in (state.get("processes") or {}).items():
        if process.get("pid") and process.get("started"):
            identity = Identity(int(process["pid"]), str(process["started"]))
            if stop_stranger(identity, ORPHAN_GRACE_S):
                found.append(name)
    if state.get("instance") and stop_marked(str(state["instance"]), ORPHAN_GRACE_S) and not found:
        found.append("runs")
    clear_state(home)
    return found


class _Unit:
    """One part or step and what has happened to it; touched by the supervisor's thread only."""

    def __init__(self, spec: Part | Step) -> None:
        self.spec = spec
        self.state: State = "waiting"
        self.process: subprocess.Popen[bytes] | None = None
        self.identity: Identity | None = None
        self.job: Future[Any] | None = None
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
        self._instance = secrets.token_hex(8)
        self._lock = lock
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._failure: ExplorerError | None = None
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")

    def start(self) -> None:
        """Begin to start units; returns at once."""
        self._pool = ThreadPoolExecutor(max_workers=max(4, len(self._units)), thread_name_prefix="probe")
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._write_state()
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
            self._thread.join()
            self._thread = None
            for unit in reversed(self._units.values()):
                self._stop_unit(unit)
            stop_marked(self._instance, ORPHAN_GRACE_S)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            clear_state(self._home)
        self._lock.release()

    def _loop(self) -> None:
        next_rotation = 0.0
        while not self._stopping.wait(TICK_S):
            for unit in self._units.values():
                if self._failure is None or unit.state != "waiting":
                    self._advance(unit)
            if time.monotonic() > next_rotation:
                next_rotation = time.monotonic() + ROTATE_INTERVAL_S
                for unit in self._units.values():
                    rotate(self._log(unit))

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
            assert self._pool is not None  # noqa: S101
            unit.job = self._pool.submit(unit.spec.run)
        else:
            env = {**unit.spec.env, MARK: self._instance}
            unit.process = spawn(unit.spec.argv, env=env, cwd=self._home / "run", log=self._log(unit))
            unit.identity = Identity.of(unit.process.pid)
        self._set(unit, "starting")

    def _check(self, unit: _Unit, now: float) -> None:
        if unit.job is None:
            if now >= unit.next_check:
                assert self._pool is not None  # noqa: S101
                unit.job = self._pool.submit(unit.spec.ready)
            return
        if unit.job.done():
            job, unit.job = unit.job, None
            starting = unit.state == "starting"
            if starting and isinstance(unit.spec, Step):
                self._step_done(unit, job)
            else:
                self._probed(unit, job.exception() is None and bool(job.result()), now)
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
            self._restart(unit, f"failed again ({type(error).__name__})")
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

    def _probed(self, unit: _Unit, healthy: bool, now: float) -> None:
        if healthy and unit.state != "ready":
            unit.ready_at = now if unit.state == "starting" else unit.ready_at
            unit.note = ""
            self._set(unit, "ready")
        elif not healthy and unit.state == "ready":
            unit.note = "does not answer"
            self._set(unit, "unhealthy")
            if isinstance(unit.spec, Step):
                self._restart(unit, "does not answer")
        elif unit.state == "starting":
            self._check_deadline(unit, now)
        if unit.state == "ready" and now - unit.ready_at > STABLE_AFTER_S:
            unit.failures_in_row = 0

    def _check_deadline(self, unit: _Unit, now: float) -> None:
        if not isinstance(unit.spec, Part) or now - unit.began <= unit.spec.start_timeout_s:
            return
        how = f"was not ready after {unit.spec.start_timeout_s:g} s"
        if not unit.restarts and not unit.optional:
            self._fail(unit, self._part_failed(unit, how))
            return
        if unit.process is not None:
            stop_child(unit.process, unit.spec.stop_signal, HANGING_GRACE_S)
        unit.process, unit.identity, unit.job = None, None, None
        self._restart(unit, how)

    def _died(self, unit: _Unit) -> None:
        assert unit.process is not None  # noqa: S101
        assert isinstance(unit.spec, Part)  # noqa: S101
        code = unit.process.returncode
        stop_child(unit.process, unit.spec.stop_signal, 0.0)
        unit.process, unit.identity, unit.job = None, None, None
        how = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if unit.state == "starting" and not unit.restarts and not unit.optional:
            self._fail(unit, self._part_failed(unit, how))
            return
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

    def _stop_unit(self, unit: _Unit) -> None:
        if isinstance(unit.spec, Part):
            if unit.process is not None:
                self._set(unit, "stopping")
                stop_child(unit.process, unit.spec.stop_signal, unit.spec.stop_grace_s)
        elif unit.state != "waiting":
            self._set(unit, "stopping")
            with contextlib.suppress(Exception):
                if unit.job is not None:
                    unit.job.result()
            try:
                unit.spec.undo()
            except Exception:
                log.exception("%s could not be undone", unit.spec.name)
        unit.process, unit.identity, unit.job = None, None, None
        self._set(unit, "stopped")

    def _set(self, unit: _Unit, state: State) -> None:
        with self._changed:
            unit.state = state
            self._write_state()
            self._changed.notify_all()
        self.on_change(unit.status(time.monotonic()))

    def _write_state(self) -> None:
        me = Identity.of(os.getpid())
        units = list(self._units.values())
        state: dict[str, Any] = {
            **self._facts,
            "instance": self._instance,
            "supervisor": {"pid": me.pid, "started": me.started},
            "started_at": self._started_at,
            "ready": all(unit.settled for unit in units),
            "pids": {unit.spec.name: unit.identity.pid for unit in units if unit.identity},
            "processes": {unit.spec.name: self._describe(unit) for unit in units},
        }
        write_state(self._home, state)

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
