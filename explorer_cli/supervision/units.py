"""The units of a supervisor: parts (processes to keep running) and steps (done once), with the state of each."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from explorer.core.errors import ExplorerError
from explorer.core.processes import ProcessIdentity

HEALTH_INTERVAL_S = 10.0

State = Literal["waiting", "starting", "ready", "unhealthy", "restarting", "failed", "stopping", "stopped"]
Probe = Callable[[], object]


class Hindered(ExplorerError):
    """A part runs but cannot work, and a restart would not help. Its probe raises this with the reason."""

    code = "part_hindered"


@dataclass(frozen=True)
class Part:
    """A process to keep running. `ready` answers within a few seconds and later also checks health. It may raise an ExplorerError
    with the reason.

    An `optional` part has a fallback: when it does not come up this is shown, it is tried again, and nothing waits for it.
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
    # Stopped before the others, because it still calls them while it stops.
    stops_first: bool = False
    # It measures waits by the machine's clock, so that it stands still or gives up when that is set: it is started again then.
    waits_by_clock: bool = False


@dataclass(frozen=True)
class Step:
    """Work done once in this process before parts can start; `undo` runs after everything else stopped.

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
    """The present state of a part or step. `elapsed_s` counts from its start until it was ready."""

    name: str
    title: str
    state: State
    address: str | None
    pid: int | None
    restarts: int
    elapsed_s: float
    note: str


class Unit:
    """One part or step with its state; only the supervisor's thread uses it."""

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
        """Whether nobody needs to wait for it any more."""
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

    def describe(self, now: float) -> dict[str, Any]:
        """The unit as in the state file."""
        status = self.status(now)
        return {
            "title": status.title,
            "pid": status.pid,
            "started": self.identity.started if self.identity else None,
            "state": status.state,
            "healthy": status.state == "ready",
            "optional": self.optional,
            "restarts": status.restarts,
            "address": status.address,
            "note": status.note,
        }

    def forget_process(self) -> None:
        """Forget the process and its running probe."""
        self.process, self.identity, self.job = None, None, None
