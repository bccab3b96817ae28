"""Which process is meant: a pid alone may have been given to another one since."""

import sys
from pathlib import Path


def process_identity(pid: int) -> str | None:
    """`pid:start time` of a living process, None when it has ended (a zombie has ended).

    Start time is what the kernel says: ticks since boot (Linux, proc(5) field 22), or what `ps` prints (elsewhere).
    """
    if sys.platform != "linux":
        return _identity_from_ps(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] in "ZX" else f"{pid}:{fields[19]}"


def _identity_from_ps(pid: int) -> str | None:
    import subprocess

    answer = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else f"{pid}:{started.strip()}"
