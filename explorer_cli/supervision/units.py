"""What a supervisor looks after: parts (processes to keep running) and steps (done once), and what has happened to each."""

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


class Unit:
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

    def describe(self, now: float) -> dict[str, Any]:
        """The unit as the state file has it."""
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
        """The process is gone, and whoever asks it too."""
        self.process, self.identity, self.job = None, None, None
