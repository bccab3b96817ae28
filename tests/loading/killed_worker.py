"""A load in a process that kills itself (SIGKILL) at a named point: `walk`, `copy`, `merge` or `commit`. Run by test_load."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dlt.destinations.impl.postgres.postgres import PostgresClient, PostgresCsvCopyJob
from dlt.destinations.job_client_impl import SqlLoadJob
from psycopg.conninfo import conninfo_to_dict

from demo_commcare import MATERNAL
from explorer_dagster.catalog.credentials import ApiKeyCredential
from explorer_dagster.commcare.client import CommCareClient
from explorer_dagster.loading import LoadProgress, LoadTarget, load
from explorer_dagster.registry import load_pipeline
from explorer_dagster.settings import Settings

# Reached this many times before the end: some tables are done by then, others are not.
REACHED_BEFORE = 2
_POINTS: dict[str, tuple[type, str, int]] = {
    "copy": (PostgresCsvCopyJob, "run", REACHED_BEFORE),
    "merge": (SqlLoadJob, "run", REACHED_BEFORE),
    "commit": (PostgresClient, "complete_load", 0),
}


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at(owner: type, name: str, calls: int) -> None:
    original: Callable[..., Any] = getattr(owner, name)
    seen = iter(range(calls))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if next(seen, None) is None:
            _kill()
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


def main(point: str, url: str, username: str, prefix: str, work_dir: str) -> None:
    login = conninfo_to_dict(os.environ["KILLED_LOGIN"])
    connections = SimpleNamespace(tenant=lambda user, password: SimpleNamespace(conninfo=lambda: login))
    if point in _POINTS:
        _kill_at(*_POINTS[point])

    def on_progress(progress: LoadProgress) -> None:
        if point == "walk" and progress.resource == "forms" and progress.pages == REACHED_BEFORE:
            _kill()

    pipeline = load_pipeline(Path(__file__).parents[2] / "pipelines" / "commcare_sync.yml")
    sources = tuple(source.model_copy(update={"page_size": 20, "max_page_size": None}) for source in pipeline.sources)
    pipeline = pipeline.model_copy(update={"sources": sources})
    settings = Settings(_env_file=None)
    credential = ApiKeyCredential(username, os.environ["KILLED_API_KEY"])
    target = LoadTarget("demo", prefix, SimpleNamespace(user="", password=""), connections)
    with CommCareClient(url, MATERNAL, credential, settings=settings) as client:
        load(
            target, client, pipeline, pipeline.source_names,
            run_id="killed", full=False, work_dir=Path(work_dir), on_progress=on_progress,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
