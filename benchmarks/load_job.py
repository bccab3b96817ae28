"""The job of loading some resources into a tenant, as a worker of the platform does. `worker` imports it only for this job."""

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from benchmarks.job import Job, benchmark_settings
from demo_commcare import MATERNAL
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.contract.schemas import TenantSchemas
from explorer.load import LoadProgress, LoadTarget, load
from explorer.postgres.connections import load_connections
from explorer.postgres.run_lock import run_lock
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.paging import STYLES
from explorer.registry import Pipeline, load_pipeline

PIPELINE_FILE = Path(__file__).parents[1] / "pipelines" / "commcare_sync.yml"
_PROGRESS_EVERY_S = 0.5


def pipeline_with(changes: dict[str, dict[str, Any]]) -> Pipeline:
    """The project's pipeline, with some fields of some sources changed."""
    pipeline = load_pipeline(PIPELINE_FILE)
    sources = [source.model_copy(update=changes.get(source.name, {})) for source in pipeline.sources]
    return pipeline.model_copy(update={"sources": tuple(sources)})


class LoadJob:
    """Loads once per call."""

    def __init__(self, job: Job, answers: TextIO) -> None:
        self._job, self._answers = job, answers
        self._settings = benchmark_settings(Path(job["home"]))
        login = load_connections(self._settings).tenant(job["user"], job["password"])
        self._target = LoadTarget(TenantSchemas(job["prefix"]), login)
        self._pipeline = pipeline_with(job["changes"])
        self._rows: dict[str, int] = {}
        self._reported_at = 0.0

    def __call__(self, run_id: str) -> dict[str, Any]:
        server = self._job["server"]
        credential = ApiKeyCredential(server["username"], server["api_key"])
        work_dir = Path(self._job["work_dir"])
        began, cpu_began = time.perf_counter(), time.process_time()
        login, prefix = self._target.login, self._job["prefix"]
        with (
            CommCareClient(server["url"], MATERNAL, credential, settings=self._settings) as client,
            run_lock(login, prefix, prefix, holder=f"run {run_id}") as connection,
        ):
            report = load(
                self._target, connection, client, self._pipeline, self._job["resources"],
                styles=STYLES, run_id=run_id, full=False, work_dir=work_dir, on_progress=self._report,
            )  # fmt: skip
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        shutil.rmtree(work_dir, ignore_errors=True)
        resources = {name: asdict(resource) for name, resource in report.resources.items()}
        return {"wall_s": wall_s, "cpu_s": cpu_s, "resources": resources}

    def _report(self, progress: LoadProgress) -> None:
        self._rows[progress.resource] = progress.rows
        now = time.monotonic()
        if now - self._reported_at > _PROGRESS_EVERY_S:
            self._reported_at = now
            print(json.dumps({"progress": sum(self._rows.values())}), file=self._answers)
