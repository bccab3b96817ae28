"""Writes a Dagster history of many tenants: one finished run for each, with a materialization of every asset.

It is a process of its own, because it imports Dagster. It reads the job from a line on stdin and writes the number of
materializations to a line on stdout. The runs are real ones, of a job with the pipeline's name and assets that do nothing.
"""

import json
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import dagster as dg

from explorer.contract.materializations import ListedTable, Tables
from explorer.contract.names import TENANT_PARTITIONS
from explorer_dagster.metadata import as_metadata
from explorer_dagster.partitions import tenants


def main() -> None:
    """Write the history that the line on stdin describes."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    written = write(order["runs"], order["job"], order["tables"])
    print(json.dumps({"events": written}), flush=True)


def write(runs: dict[str, str], job: str, tables: list[dict[str, Any]]) -> int:
    """Write a finished run of the pipeline per tenant (`runs`: key to run id); returns the number of materializations."""
    # Not at the top: definitions may start dbt in a spawned process, which imports this module again.
    from explorer_dagster.definitions import defs

    keys = sorted(defs.resolve_all_asset_keys())
    stand_in = _job(job, keys, tables)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(TENANT_PARTITIONS, list(runs))
        for tenant, run_id in runs.items():
            stand_in.execute_in_process(instance=instance, partition_key=tenant, run_id=str(uuid.UUID(run_id)))
    return len(runs) * len(keys)


def _job(name: str, keys: list[dg.AssetKey], tables: list[dict[str, Any]]) -> dg.JobDefinition:
    @dg.multi_asset(specs=[dg.AssetSpec(key, partitions_def=tenants) for key in keys])
    def nothing() -> Iterator[dg.MaterializeResult[Any]]:
        for key in keys:
            yield dg.MaterializeResult(asset_key=key, metadata=as_metadata(_content(key, tables)))

    job = dg.define_asset_job(name, selection="*", executor_def=dg.in_process_executor)
    return dg.Definitions(assets=[nothing], jobs=[job]).resolve_job_def(name)


def _content(key: dg.AssetKey, tables: list[dict[str, Any]]) -> Tables:
    if key.path[-1] not in ("case_tables", "form_tables"):
        return Tables(row_count=20)
    kind = key.path[-1].removesuffix("_tables")
    return Tables(row_count=20, tables=tuple(ListedTable(**each) for each in tables if each["name"].startswith(kind)))


if __name__ == "__main__":
    main()
