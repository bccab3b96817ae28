"""The job of building a tenant's tables, stale ones or all, as a worker of the platform does. `worker` imports it only for
this job, because the others need no dbt."""

import time
from pathlib import Path
from typing import Any

from benchmarks.job import Job, benchmark_settings
from explorer.contract.bookkeeping import columns as kept_columns
from explorer.contract.schemas import TenantSchemas
from explorer.marts.dbt.results import NodeResult
from explorer.marts.manifest import static_manifest, static_parse, warm_up
from explorer.marts.models import models_of
from explorer.marts.planning import plan
from explorer.marts.project import prepare
from explorer.marts.refresh import refresh
from explorer.postgres.connections import load_connections
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.tables.column_facts import facts_of
from explorer.tables.unfit_values import count_unfit_values
from explorer_dagster.launch.warm_pool import settle

EVERYTHING = "everything"
_PROVIDER, _PLANNER = "commcare", CommCareTables()


class TransformJob:
    """Builds once per call. The process is warm, like workers that are forked from a warm process."""

    def __init__(self, job: Job) -> None:
        self._settings = benchmark_settings(Path(job["home"]))
        self._structure = job["structure"]
        self._schemas, self._work_dir = TenantSchemas(job["prefix"]), Path(job["work_dir"])
        self._connections = load_connections(self._settings)
        self._login = self._connections.tenant(job["user"], job["password"])
        warm_up(self._settings, _PROVIDER, _PLANNER)
        self._static = static_manifest(self._settings, _PROVIDER)
        settle()

    def __call__(self, run_id: str) -> dict[str, Any]:
        """Build what is stale, or all models when `run_id` says EVERYTHING."""
        parse = self._work_dir / "target" / "partial_parse.msgpack"
        parsed_at = parse.stat().st_mtime_ns if parse.exists() else None
        began, cpu_began = time.perf_counter(), time.process_time()
        results = self._transform(whole=run_id == EVERYTHING)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        models = [result for result in results if result.resource_type == "model"]
        return {
            "wall_s": wall_s, "cpu_s": cpu_s, "models": len(models),
            "built_by_dbt": sum(bool(result.sql) for result in models),
            "failed": [result.name for result in models if result.status != "success"],
            "rows": {result.name: result.rows for result in models if result.rows is not None},
            "slowest": dict(sorted(((r.name, round(r.duration_s, 3)) for r in results), key=_last)[-10:]),
            "parsed": parse.exists() and parse.stat().st_mtime_ns != parsed_at,
        }  # fmt: skip

    def _transform(self, *, whole: bool) -> list[NodeResult]:
        project = prepare(
            self._structure,
            _PLANNER,
            provider=_PROVIDER,
            dbt_project=self._settings.project_dir / "dbt_project",
            work_dir=self._work_dir,
            schemas=self._schemas,
            connection_rw=self._login,
            parsed_before=static_parse(self._settings, _PROVIDER),
        )
        results: list[NodeResult] = []
        with self._login.connect(autocommit=True) as connection:
            planned = plan(connection, project, models_of(project, self._static))
            refresh(
                connection,
                project,
                planned,
                planned.models,
                by_need=not whole,
                database=self._login,
                on_result=results.append,
                on_fallback=_no_measure,
            )
            kept_columns.write(connection, self._schemas, facts_of(project.tables))
            count_unfit_values(connection, self._schemas, project.tables)
        return results


def _no_measure(model: str, why: str) -> None:
    raise RuntimeError(f"{model} cannot be brought up to date without dbt: {why}")


def _last(pair: tuple[str, float]) -> float:
    return pair[1]
