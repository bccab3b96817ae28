"""The job of building a tenant's tables and models, stale ones or all, as a worker of the platform does. `worker` imports it only
for this job, because the others need no dbt."""

import importlib
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.job import Job, benchmark_settings
from explorer.contract.schemas import TenantSchemas
from explorer.marts import Models, TenantDbt, build, manifest, read_ahead, stand_by, warm_up
from explorer.postgres.connections import load_connections
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.tables.engine import TableResult, update
from explorer_dagster.launch.warm_pool import MODULES, settle

EVERYTHING = "everything"
_PROVIDER, _PLANNER = "commcare", CommCareTables()


class TransformJob:
    """Builds once per call, in a process that is forked from this warm one for it, like a worker of the warm pool."""

    def __init__(self, job: Job) -> None:
        self._settings = benchmark_settings(Path(job["home"]))
        self._structure = job["structure"]
        self._schemas = TenantSchemas(job["prefix"])
        self._login = load_connections(self._settings).tenant(job["user"], job["password"])
        self._dbt = TenantDbt(self._settings, _PROVIDER, self._schemas, self._login)
        self._of_provider = Models(manifest(self._settings, _PROVIDER))
        for module in MODULES:
            importlib.import_module(module)
        warm_up(self._settings)
        settle()

    def __call__(self, run_id: str) -> dict[str, Any]:
        """Build what is stale, or everything when `run_id` says EVERYTHING."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        worker = context.Process(target=self._work, args=(theirs, run_id == EVERYTHING))
        worker.start()
        theirs.close()
        done: dict[str, Any] = ours.recv()
        worker.join()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return done | {"cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}

    def _work(self, answer: Connection, whole: bool) -> None:
        stand_by()
        began = time.perf_counter()
        read_ahead(self._dbt)
        tables = self._tables(whole)
        tables_s = time.perf_counter() - began
        models = self._models(whole)
        wall_s = time.perf_counter() - began
        done = [result for result in (*tables.values(), *models.values()) if result.verb != "unchanged"]
        slowest = sorted(done, key=lambda result: result.duration_s)[-10:]
        answer.send({
            "wall_s": wall_s, "tables_s": tables_s, "tables": len(tables), "models": len(models),
            "changed": len(done), "applied": sum(result.verb == "applied" for result in done),
            "failed": [result.table for result in done if result.verb in ("failed", "skipped")],
            "rows": {name: result.rows for name, result in {**tables, **models}.items() if result.rows is not None},
            "slowest": {result.table: round(result.duration_s, 3) for result in slowest},
        })  # fmt: skip

    def _tables(self, whole: bool) -> dict[str, TableResult]:
        with self._login.connect() as connection:
            taken = self._of_provider.by_name
            planned = _PLANNER.plan_tables(self._structure, connection, self._schemas, taken=taken)
        done = update(
            self._login, self._schemas, planned, _PLANNER.changed_records, run_id="benchmark", by_need=not whole
        )
        return dict(done.results)

    def _models(self, whole: bool) -> dict[str, TableResult]:
        built = build(
            self._dbt,
            self._of_provider,
            wanted=None,
            by_need=not whole,
            run_id="benchmark",
            on_plan=_ignore,
            on_result=_ignore,
        )
        return dict(built.results)


def _ignore(_: object) -> None:
    """Nobody follows a benchmark's run."""
