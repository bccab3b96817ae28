"""Finds and ends the processes that a killed supervisor left running."""

import hashlib
import os
from pathlib import Path

from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import clear_state, read_state
from explorer_cli.supervision.processes import stop_marked, stop_recorded_all

LEFTOVERS_GRACE_S = 2.0
STRAY_GRACE_S = 0.5


def stop_leftovers(home: Path, grace_s: float = LEFTOVERS_GRACE_S) -> list[str]:
    """End the processes that a dead supervisor left running under `home`; returns the names of the parts that it found."""
    state = read_state(home)
    known = {
        name: ProcessIdentity(int(process["pid"]), str(process["started"]))
        for name, process in (state.get("processes") or {}).items()
        if process.get("pid") and process.get("started")
    }
    stopped = stop_recorded_all(list(known.values()), grace_s)
    found = [name for name, there in zip(known, stopped, strict=True) if there]
    # The state file may be lost or damaged, but processes of this HOME carry its mark (in older versions it did not name HOME).
    strays = [
        pid for mark in {mark_of(home), state.get("instance")} if mark for pid in stop_marked(mark, STRAY_GRACE_S)
    ]
    if strays and not found:
        found.append("runs")
    clear_state(home)
    return found


def mark_of(home: Path) -> str:
    """The common beginning of the marks of all supervisors of this HOME."""
    return f"{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]}-"
