"""One measured job in a process of its own, so that memory and interpreter are not shared.

The first line on stdin is the job; stdout says `{"ready": true}` after all imports. Each further line on stdin runs the job
once, with lines `{"progress": rows}` meanwhile and `{"result": {...}}` at its end on stdout. The process ends with stdin.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import httpx
import psycopg
from psycopg import sql

from benchmarks.job import Job, benchmark_settings
from explorer.postgres.connections import load_connections

_BLOCK_BYTES = 1024 * 1024


class CopyJob:
    """The baseline of writing: COPY of prepared text into existing tables, one after the other, each committed."""

    def __init__(self, job: Job) -> None:
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
    """The baseline of requests: the same requests one after the other; each body is read and not parsed."""

    def __init__(self, job: Job) -> None:
        server = job["server"]
        self._urls = [f"{server['url']}{request}" for request in job["requests"]]
        headers = {"Authorization": f"ApiKey {server['username']}:{server['api_key']}"}
        self._client = httpx.Client(headers=headers, trust_env=False, timeout=60)

    def __call__(self, _run_id: str) -> dict[str, Any]:
        began = time.perf_counter()
        for url in self._urls:
            self._client.get(url).raise_for_status()
        return {"wall_s": time.perf_counter() - began}


def _work(job: Job, answers: TextIO) -> Callable[[str], dict[str, Any]]:
    match job["kind"]:
        case "copy":
            return CopyJob(job)
        case "requests":
            return RequestsJob(job)
        case "transform":
            from benchmarks.transform_job import TransformJob

            return TransformJob(job)
        case _:
            # The import takes seconds, and the baselines do not need it.
            from benchmarks.load_job import LoadJob

            return LoadJob(job, answers)


def main() -> None:
    """Serve one job until stdin ends."""
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    job = json.loads(sys.stdin.readline())
    work = _work(job, answers)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps({"result": work(json.loads(line)["run_id"])}), file=answers)


if __name__ == "__main__":
    main()
