"""Moves a unit from state to state: starts it when its needs are ready, probes it, restarts it with growing delays."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from explorer.core.errors import ExplorerError
from explorer.core.processes import ProcessIdentity
from explorer_cli.errors import PartFailed
from explorer_cli.supervision.logs import tail
from explorer_cli.supervision.processes import MARK, spawn, stop_child
from explorer_cli.supervision.units import Hindered, Part, State, Step, Unit

START_INTERVAL_S = 0.5
UNHEALTHY_INTERVAL_S = 2.0
RESTART_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STABLE_AFTER_S = 60.0
# A probe without an answer for this long has failed.
PROBE_TIMEOUT_S = 15.0
# The loop that watches all parts waits this long for a part that hangs while it starts.
HANGING_GRACE_S = 2.0

log = logging.getLogger(__name__)


class Transitions:
    """Moves the units of one supervisor. A part that dies before it was ready fails the start, unless it is optional. A part that
    was ready is always restarted."""

    def __init__(
        self,
        home: Path,
        instance: str,
        units: Mapping[str, Unit],
        facts: dict[str, Any],
        *,
        change: Callable[[Unit, State], None],
        fail: Callable[[Unit, ExplorerError], None],
    ) -> None:
        """`instance` marks the processes; steps report into `facts`; `change` records a new state, `fail` the final failure."""
        self._home = home
        self._instance = instance
        self._units = units
        self._facts = facts
        self._change = change
        self._fail = fail

    def advance(self, unit: Unit) -> None:
        """Check the unit once and do what is due; returns within `HANGING_GRACE_S`."""
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

    def start_again(self, unit: Unit, why: str) -> None:
        """Stop a part's process, which lives, and start another one."""
        assert unit.process is not None  # noqa: S101
        assert isinstance(unit.spec, Part)  # noqa: S101
        stop_child(unit.process, unit.spec.stop_signal, HANGING_GRACE_S)
        unit.forget_process()
        self._restart(unit, why)

    def _begin(self, unit: Unit) -> None:
        unit.began = time.monotonic()
        unit.next_check = unit.began
        if isinstance(unit.spec, Step):
            unit.job = _in_background(unit.spec.run)
        else:
            env = {**unit.spec.env, MARK: self._instance}
            try:
                unit.process = spawn(unit.spec.argv, env=env, cwd=self._home / "run", log=log_of(self._home, unit))
            except OSError as error:
                self._lost(unit, f"could not be started ({words(error)})")
                return
            unit.identity = ProcessIdentity.of(unit.process.pid)
        self._change(unit, "starting")

    def _check(self, unit: Unit, now: float) -> None:
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

    def _step_done(self, unit: Unit, job: "Future[Any]") -> None:
        error = job.exception()
        if error is None:
            self._facts.update(job.result())
            unit.ready_at = time.monotonic()
            unit.note = ""
            self._change(unit, "ready")
        elif unit.restarts:
            self._restart(unit, f"failed again: {words(error)}")
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

    def _probed(self, unit: Unit, job: "Future[Any]", now: float) -> None:
        """`job`: the probe, which has answered or timed out."""
        error = job.exception() if job.done() else None
        healthy = job.done() and error is None and bool(job.result())
        if healthy and unit.state != "ready":
            unit.ready_at = now if unit.state == "starting" else unit.ready_at
            unit.note = ""
            self._change(unit, "ready")
        elif not healthy and unit.state in ("ready", "unhealthy"):
            why = words(error) if isinstance(error, ExplorerError) else "does not answer"
            if (unit.state, unit.note) != ("unhealthy", why):
                unit.note = why
                log.warning("%s: %s", unit.spec.name, why)
                self._change(unit, "unhealthy")
            if isinstance(unit.spec, Step) and not isinstance(error, Hindered):
                self._restart(unit, why)
        elif unit.state == "starting" and isinstance(error, Hindered) and not (unit.restarts or unit.optional):
            self._fail(unit, error)
        elif unit.state == "starting":
            self._check_deadline(unit, now)
        if unit.state == "ready" and now - unit.ready_at > STABLE_AFTER_S:
            unit.failures_in_row = 0

    def _check_deadline(self, unit: Unit, now: float) -> None:
        if not isinstance(unit.spec, Part) or now - unit.began <= unit.spec.start_timeout_s:
            return
        how = f"was not ready after {unit.spec.start_timeout_s:g} s"
        if unit.process is not None and (unit.restarts or unit.optional):
            stop_child(unit.process, unit.spec.stop_signal, HANGING_GRACE_S)
            unit.forget_process()
        self._lost(unit, how)

    def _died(self, unit: Unit) -> None:
        assert unit.process is not None  # noqa: S101
        assert isinstance(unit.spec, Part)  # noqa: S101
        code = unit.process.returncode
        stop_child(unit.process, unit.spec.stop_signal, 0.0)
        unit.forget_process()
        how = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if unit.state == "starting":
            self._lost(unit, how)
        else:
            self._restart(unit, how)

    def _lost(self, unit: Unit, how: str) -> None:
        """Handle a part that did not come up: if it never ran, the start fails; else it is tried again."""
        if not unit.restarts and not unit.optional:
            self._fail(unit, self._part_failed(unit, how))
        else:
            self._restart(unit, how)

    def _restart(self, unit: Unit, why: str) -> None:
        delay_s = RESTART_DELAYS_S[min(unit.failures_in_row, len(RESTART_DELAYS_S) - 1)]
        unit.restarts += 1
        unit.failures_in_row += 1
        unit.restart_at = time.monotonic() + delay_s
        unit.note = f"{why}, restarted in {delay_s:g} s"
        log.warning("%s %s", unit.spec.name, unit.note)
        self._change(unit, "restarting")

    def _part_failed(self, unit: Unit, how: str) -> PartFailed:
        return PartFailed(
            f"{unit.spec.title} {how}.",
            next_step=f"Read {log_of(self._home, unit)}, mend the cause it names and start again; `explorer doctor` may know it.",
            details={"part": unit.spec.name, "log": tail(log_of(self._home, unit))},
        )


def log_of(home: Path, unit: Unit) -> Path:
    """The path of a part's log."""
    return home / "logs" / f"{unit.spec.name}.log"


def words(error: BaseException) -> str:
    """An error in one line: its own message if that is written for people."""
    if isinstance(error, ExplorerError):
        return error.message.rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _in_background(work: Callable[[], Any]) -> "Future[Any]":
    """Run `work` in a daemon thread, because it may hang for ever and must not keep the process alive."""
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
