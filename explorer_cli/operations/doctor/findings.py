"""The result of a check, and the installation that checks read."""

from dataclasses import dataclass
from typing import Any, Literal

from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli.supervision.lock import holder_of

Outcome = Literal["ok", "warning", "wrong", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The result of one check: its status, the facts and, for a problem, the next step."""

    check: str
    outcome: Outcome
    detail: str
    next_step: str = ""


@dataclass(frozen=True)
class Installation:
    """One HOME: its settings, its supervisor's state file, and whether a supervisor runs. `online`: checks may ask servers."""

    settings: Settings
    state: dict[str, Any]
    running: bool
    online: bool

    @classmethod
    def look_at(cls, settings: Settings, *, online: bool) -> "Installation":
        return cls(settings, read_state(settings.home), holder_of(settings.home) is not None, online)

    def log(self, name: str) -> str:
        """Path of a part's log."""
        return str(self.settings.home / "logs" / f"{name}.log")


def ok(check: str, detail: str) -> list[Finding]:
    return [Finding(check, "ok", detail)]


def warning(check: str, detail: str, next_step: str) -> list[Finding]:
    return [Finding(check, "warning", detail, next_step)]


def wrong(check: str, detail: str, next_step: str) -> list[Finding]:
    return [Finding(check, "wrong", detail, next_step)]


def not_running(check: str) -> list[Finding]:
    """The finding of a check that needs a running platform."""
    return [Finding(check, "skipped", "not running", "Start the platform with `explorer up` and look again.")]
