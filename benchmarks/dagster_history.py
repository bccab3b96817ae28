"""Writes a Dagster history of many tenants: one finished run for each, with a materialization of every asset.

It is a process of its own, because it imports Dagster. It reads the job from a line on stdin and writes the number of events
to a line on stdout.
"""

import json
import os
import sys
import uuid
from typing import Any


def main() -> None:
    """Write the history that the line on stdin describes."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    os.environ |= {"EXPLORER_HOME": order["home"], "DAGSTER_HOME": order["dagster_home"]}
    written = write(order["runs"], order["job"], order["tables"])
    print(json.dumps({"events": written}), flush=True)


def write(runs: dict[str, str], job: str, tables: list[dict[str, Any]]) -> int:
    """Write a finished run of the pipeline per tenant (`runs`: key to run id); returns the number of events."""
    import dagster as dg
    from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
    from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus

    from explorer.contract.materializations import ListedTable, Tables
    from explorer.contract.names import TENANT_PARTITIONS
    from explorer.contract.tags import RunTags
    from explorer_dagster.definitions import defs
    from explorer_dagster.metadata import as_metadata

    keys = sorted(defs.resolve_job_def(job).asset_layer.executable_asset_keys)
    written = 0
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(TENANT_PARTITIONS, list(runs))
        for tenant, run_id in runs.items():
            tags = RunTags(partition_key=tenant).to_tags()
            instance.add_run(DagsterRun(job, str(uuid.UUID(run_id)), tags=tags, status=DagsterRunStatus.SUCCESS))
            for key in keys:
                listed = None
                if key.path[-1] in ("case_tables", "form_tables"):
                    wanted = key.path[-1].removesuffix("_tables")
                    listed = tuple(ListedTable(**t) for t in tables if t["name"].startswith(wanted))
                metadata = as_metadata(Tables(row_count=20, tables=listed))
                found = dg.AssetMaterialization(key, partition=tenant, metadata=metadata)
                event = DagsterEvent(
                    DagsterEventType.ASSET_MATERIALIZATION.value,
                    job,
                    event_specific_data=StepMaterializationData(found),
                )
                instance.report_dagster_event(event, run_id)
                written += 1
    return written


if __name__ == "__main__":
    main()
