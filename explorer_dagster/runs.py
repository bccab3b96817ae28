"""What is known about Dagster's runs: those that have not ended, and whether the one that is executed here still may go on."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUSPENDED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED_BY_OTHERS = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
LOOKED_AT_EVERY_S = 3.0


@contextmanager
def ended_with_its_run(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Inside the block this process gets a SIGTERM, as a launcher sends it, when its run is cancelled or was called failed.

    The launcher's own signal comes first: only when the run still goes on at the second look, this one is sent.

    Who cancels may be on another machine, or could not reach this one; and a run that was called failed while its worker could
    not be seen must not go on beside the next one.
    """
    over = threading.Event()

    def look() -> None:
        seen = False
        while not over.wait(LOOKED_AT_EVERY_S):
            try:
                run = instance.get_run_by_id(run_id)
            except SQLAlchemyError:
                # The database is away for a moment. The run itself will say so.
                continue
            if run is None or run.status not in _ENDED_BY_OTHERS:
                continue
            if seen and not over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            seen = True

    watch = threading.Thread(target=look, name="run-state", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join(LOOKED_AT_EVERY_S)
