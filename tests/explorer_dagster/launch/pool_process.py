"""A fork server in a process of its own, whose workers do one of a few small things.

    python pool_process.py SOCKET ERA

Its code counts as changed when the file ERA is gone. The request says what the worker does: `sleep`, `stubborn` (ignores
SIGTERM), `raise`, else a run of Dagster.
"""

import signal
import sys
import time
from pathlib import Path

from explorer_dagster.launch import fork_server


def work(request: str) -> int:
    if request == "raise":
        raise ValueError(request)
    if request in ("sleep", "stubborn"):
        if request == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        return 0
    from explorer_dagster.launch.warm_pool import execute_run

    return execute_run(request)


if __name__ == "__main__":
    path, era = Path(sys.argv[1]), Path(sys.argv[2])
    with fork_server.the_only_one(path) as lock:
        fork_server.serve(path, work, is_current=era.exists, lock=lock)
