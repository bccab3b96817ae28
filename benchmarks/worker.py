"""One measured piece of work in a process of its own, so that memory and interpreter are nobody else's.

The first line on stdin is the job; `{"ready": true}` comes when all is imported. Each further line does it once: lines
`{"progress": rows}` while it runs, `{"result": {...}}` at its end, both on stdout. It ends when stdin does.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import httpx
import psycopg
from psycopg import sql

from demo_commcare import MATERNAL
from explorer_dagster.catalog.credentials import ApiKeyCredential
from explorer_dagster.commcare.client import CommCareClient
from explorer_dagster.loading import LoadProgress, LoadTarget, load
from explorer_dagster.postgres.bootstrap import load_connections
from explorer_dagster.registry import Pipeline, load_pipeline
from explorer_dagster.settings import Settings

Job = dict[str, Any]
PIPELINE_FILE = Path(__file__).parents[1] / "pipelines" / "commcare_sync.yml"
# The limiter guards the servers of others; this one is ours.
_REQUESTS_PER_SECOND = 1000
_BLOCK_BYTES = 1024 * 1024
_PROGRESS_EVERY_S = 0.5


def benchmark_settings(home: Path) -> Settings:
    """The settings of the run: the defaults, whatever the environment says, in `home`."""
    return Settings(_env_file=None, home=home, database_url=None, requests_per_second=_REQUESTS_PER_SECOND)


def pipeline_with(changes: dict[str, dict[str, Any]]) -> Pipeline:
    """The project's pipeline, with some fields of some sources changed."""
    pipeline = load_pipeline(PIPELINE_FILE)
    sources = [source.model_copy(update=changes.get(source.name, {})) for source in pipeline.sources]
    return pipeline.model_copy(update={"sources": tuple(sources)})


class LoadJob:
    """Ours: one load of some resources into a tenant, as a run does it."""

    def __init__(self, job: Job, answers: TextIO) -> None:
        self._job, self._answers = job, answers
        self._settings = benchmark_settings(Path(job["home"]))
        self._target = LoadTarget(
            job["prefix"], job["prefix"], _Login(job["user"], job["password"]), load_connections(self._settings)
        )
        self._pipeline = pipeline_with(job["changes"])
        self._rows: dict[str, int] = {}
        self._told_at = 0.0

    def __call__(self, run_id: str) -> dict[str, Any]:
        server = self._job["server"]
        credential = ApiKeyCredential(server["username"], server["api_key"])
        work_dir = Path(self._job["work_dir"])
        began, cpu_began = time.perf_counter(), time.process_time()
        with CommCareClient(server["url"], MATERNAL, credential, settings=self._settings) as client:
            report = load(
                self._target, client, self._pipeline, self._job["resources"],
                run_id=run_id, full=False, work_dir=work_dir, on_progress=self._tell,
            )  # fmt: skip
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        shutil.rmtree(work_dir, ignore_errors=True)
        resources = {name: asdict(resource) for name, resource in report.resources.items()}
        return {"wall_s": wall_s, "cpu_s": cpu_s, "resources": resources}

    def _tell(self, progress: LoadProgress) -> None:
        self._rows[progress.resource] = progress.rows
        now = time.monotonic()
        if now - self._told_at > _PROGRESS_EVERY_S:
            self._told_at = now
            print(json.dumps({"progress": sum(self._rows.values())}), file=self._answers)


class _Login:
    """The tenant's rw role, as `LoadTarget` wants it."""

    def __init__(self, user: str, password: str) -> None:
        self.user, self.password = user, password


class CopyJob:
    """The baseline of writing: COPY of prepared text into tables that are there, one after the other, each committed."""

    def __init__(self, job: Job, _answers: TextIO) -> None:
        self._job = job
        connections = load_connections(benchmark_settings(Path(job["home"])))
        self._conninfo = connections.tenant(job["user"], job["password"]).conninfo()

    def __call__(self, _run_id: str) -> dict[str, Any]:
        began, rows = time.perf_counter(), 0
        with psycopg.connect(**self._conninfo) as connection, connection.cursor() as cursor:
            for part in self._job["parts"]:
                columns = sql.SQL(", ").join(map(sql.Identifier, part["columns"]))
                statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(*part["table"]), columns)
                with cursor.copy(statement) as copy, Path(part["file"]).open("rb") as file:
                    while block := file.read(_BLOCK_BYTES):
                        copy.write(block)
                rows += cursor.rowcount
                connection.commit()
        return {"wall_s": time.perf_counter() - began, "rows": rows}


class RequestsJob:
    """The baseline of asking: the same requests one after the other, each body read and left alone."""

    def __init__(self, job: Job, _answers: TextIO) -> None:
        server = job["server"]
        self._urls = [f"{server['url']}{request}" for request in job["requests"]]
        headers = {"Authorization": f"ApiKey {server['username']}:{server['api_key']}"}
        self._client = httpx.Client(headers=headers, trust_env=False, timeout=60)

    def __call__(self, _run_id: str) -> dict[str, Any]:
        began = time.perf_counter()
        for url in self._urls:
            self._client.get(url).raise_for_status()
        return {"wall_s": time.perf_counter() - began}


JOBS: dict[str, Callable[[Job, TextIO], Callable[[str], dict[str, Any]]]] = {
    "load": LoadJob,
    "copy": CopyJob,
    "requests": RequestsJob,
}


def main() -> None:
    """Serve one job until stdin ends."""
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    job = json.loads(sys.stdin.readline())
    work = JOBS[job["kind"]](job, answers)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps({"result": work(json.loads(line)["run_id"])}), file=answers)


if __name__ == "__main__":
    main()
