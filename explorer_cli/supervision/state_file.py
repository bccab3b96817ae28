"""The supervisor's state as everybody else reads it, kept as it should be also where the disk is full for a while."""

import json
import logging
from pathlib import Path
from typing import Any

from explorer.core.runtime_state import read_state, write_state
from explorer_cli.supervision.lock import Lock
from explorer_cli.supervision.transitions import words

log = logging.getLogger(__name__)


class StateFile:
    """`HOME/run/state.json`, written by the one who holds the lock."""

    def __init__(self, home: Path, lock: Lock) -> None:
        self._home = home
        self._lock = lock
        self._written: dict[str, Any] = {}
        self.problem: str | None = None
        """Why the last attempt to write it failed, in words; None when it did not."""

    def write(self, state: dict[str, Any]) -> None:
        """Replace what it says; a failure is kept in `problem`. Where the lock was taken away nothing is written."""
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
        """Whether it does not say what was last to be written: that failed, or somebody changed or damaged it."""
        return self.problem is not None or read_state(self._home) != self._written
