"""The supervisor's state file for other processes; it is repaired after a full disk or damage."""

import json
import logging
from pathlib import Path
from typing import Any

from explorer.core.runtime_state import read_state, write_state
from explorer_cli.supervision.lock import Lock
from explorer_cli.supervision.transitions import words

log = logging.getLogger(__name__)


class StateFile:
    """`HOME/run/state.json`, written by the holder of the lock."""

    def __init__(self, home: Path, lock: Lock) -> None:
        self._home = home
        self._lock = lock
        self._written: dict[str, Any] = {}
        self.problem: str | None = None
        """Why the last attempt to write it failed, in words; None when it did not."""

    def write(self, state: dict[str, Any]) -> None:
        """Replace the content; `problem` keeps a failure. Nothing is written when the lock file was taken away."""
        if not self._lock.intact():
            return
        plain = json.loads(json.dumps(state))
        try:
            write_state(self._home, plain)
        except OSError as error:
            if self.problem is None:
                log.warning("The state cannot be written: %s", words(error))
            self.problem = words(error)
        else:
            self.problem, self._written = None, plain

    def is_stale(self) -> bool:
        """Whether the file differs from the last content: the write failed, or somebody changed or damaged the file."""
        return self.problem is not None or read_state(self._home) != self._written
