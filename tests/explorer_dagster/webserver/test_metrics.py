"""Dagster's figures: what waits and works now, what ended since the webserver started, how fresh tenants are, what is wrong."""

import time
from pathlib import Path

import dagster as dg

from explorer.core.settings import Settings
from explorer_dagster.webserver.metrics import DagsterFigures, Standing


@dg.op
def works(context: dg.OpExecutionContext) -> None:
    if context.run.tags.get("fails"):
        raise dg.Failure("as the test wants")


@dg.job(executor_def=dg.in_process_executor)
def job() -> None:
    works()


def numbers(text: bytes) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_runs_are_counted_once_and_tenants_stand_in_the_bucket_of_their_age(tmp_path: Path) -> None:
    now = time.time()
    standing = Standing({"a": now - 60, "b": now - 7 * 3600, "never": None}, {("failure", "warning"): 2})
    with dg.DagsterInstance.ephemeral() as instance:

        def run(**tags: str) -> None:
            job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)

        run()
        figures = DagsterFigures(instance, Settings(_env_file=None, home=tmp_path), lambda: standing)
        first = numbers(figures.text())
        assert first["explorer_tenants"] == first["explorer_tenant_age_seconds_count"] == 3
        assert first['explorer_tenant_age_seconds_bucket{le="3600.0"}'] == 1
        assert first['explorer_tenant_age_seconds_bucket{le="28800.0"}'] == 2
        assert first['explorer_tenant_age_seconds_bucket{le="+Inf"}'] == 3
        assert first['explorer_alerts{cause="failure",severity="warning"}'] == 2
        assert first['explorer_runs{status="queued"}'] == 0
        assert first['explorer_runs_ended_total{status="success"}'] == 0
        assert first["explorer_home_disk_free_bytes"] > 0

        run()
        run(fails="true")
        for _ in range(2):
            again = numbers(figures.text())
            assert again['explorer_runs_ended_total{status="success"}'] == 1
            assert again['explorer_runs_ended_total{status="failure"}'] == 1
            assert again['explorer_run_seconds_count{status="failure"}'] == 1
