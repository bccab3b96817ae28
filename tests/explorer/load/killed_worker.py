"""A load in a process that kills itself (SIGKILL) at a named point. Run by test_kill."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dlt
from psycopg.conninfo import conninfo_to_dict

from demo_commcare import MATERNAL
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import Settings
from explorer.load import LoadProgress, LoadTarget, dlt_run, load, row_buffer
from explorer.load.copy import merge
from explorer.load.raw import finish, statements
from explorer.postgres.connections import Login
from explorer.postgres.run_lock import run_lock
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.paging import STYLES
from explorer.registry import load_pipeline

# Reached this many times before the end: some tables are done by then, others are not.
REACHED_BEFORE = 2
COPIED_BEFORE = 1
_METHODS: dict[str, tuple[Any, str, int]] = {
    "move": (finish, "finish", REACHED_BEFORE),
    "chunk": (merge.Merge, "write_chunk", 2 * REACHED_BEFORE),
    "merge": (merge.Merge, "run", COPIED_BEFORE),
    "extracted by dlt": (dlt.Pipeline, "extract", 0),
    "normalized by dlt": (dlt.Pipeline, "normalize", 0),
    "loaded by dlt": (dlt_run, "run_dlt", 0),
}


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_after(owner: Any, name: str, calls: int) -> None:
    """Kill once the function has done its work for the time after `calls`, before anybody knows."""
    original: Callable[..., Any] = getattr(owner, name)
    seen = iter(range(calls))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if next(seen, None) is None:
            _kill()
        return result

    setattr(owner, name, wrapper)


def _kill_in_copy() -> None:
    original = statements.copy_rows
    seen = iter(range(COPIED_BEFORE))

    def ending(chunks: Iterable[bytes]) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == 2:
                _kill()
            yield chunk

    def wrapper(connection: Any, target: Any, table: Any, chunks: Iterable[bytes], option: str = "") -> int:
        is_last = next(seen, None) is None
        return original(connection, target, table, ending(chunks) if is_last else chunks, option)

    statements.copy_rows = wrapper


def main(point: str, mode: str, url: str, username: str, prefix: str, work_dir: str) -> None:
    given = conninfo_to_dict(os.environ["KILLED_LOGIN"])
    login = Login(*(given.pop(name) for name in ("host", "port", "dbname", "user", "password")), options=given)
    if mode == "streaming":
        row_buffer.MEMORY_BYTES, row_buffer.CHUNK_BYTES = 2_000, 2_000
    if point == "copy":
        _kill_in_copy()
    elif point in _METHODS:
        _kill_after(*_METHODS[point])

    def on_progress(progress: LoadProgress) -> None:
        if point == "walk" and progress.resource == "forms" and progress.pages >= REACHED_BEFORE:
            _kill()

    pipeline = load_pipeline(Path(__file__).parents[3] / "pipelines" / "commcare_sync.yml")
    sources = tuple(source.model_copy(update={"page_size": 20, "max_page_size": 20}) for source in pipeline.sources)
    pipeline = pipeline.model_copy(update={"sources": sources})
    settings = Settings(_env_file=None, requests_per_second=1000)
    credential = ApiKeyCredential(username, os.environ["KILLED_API_KEY"])
    target = LoadTarget(TenantSchemas(prefix), login)
    with (
        run_lock(login, "demo", prefix, holder="run killed") as connection,
        CommCareClient(url, MATERNAL, credential, settings=settings) as client,
    ):
        load(
            target, connection, client, pipeline, pipeline.source_names,
            styles=STYLES, run_id="killed", full=False, work_dir=Path(work_dir), on_progress=on_progress,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
