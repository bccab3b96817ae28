"""What a supervisor that was killed left running, found again and ended."""

import hashlib
import os
from pathlib import Path

from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import clear_state, read_state
from explorer_cli.supervision.processes import stop_marked, stop_recorded_all

LEFTOVERS_GRACE_S = 2.0
STRAY_GRACE_S = 0.5


def stop_leftovers(home: Path, grace_s: float = LEFTOVERS_GRACE_S) -> list[str]:
    """End what a supervisor that is gone left running under `home`; the names of the parts that were found."""
    state = read_state(home)
    known = {
        name: ProcessIdentity(int(process["pid"]), str(process["started"]))
        for name, process in (state.get("processes") or {}).items()
        if process.get("pid") and process.get("started")
    }
    stopped = stop_recorded_all(list(known.values()), grace_s)
    found = [name for name, there in zip(known, stopped, strict=True) if there]
    # The state may be lost or damaged: whatever was started under this HOME carries its mark. Older versions' marks did not tell.
    strays = [
        pid for mark in {mark_of(home), state.get("instance")} if mark for pid in stop_marked(mark, STRAY_GRACE_S)
    ]
    if strays and not found:
        found.append("runs")
    clear_state(home)
    return found


def mark_of(home: Path) -> str:
    """What the marks of all supervisors of this HOME begin with."""
    return f"{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]}-"
