"""A code location of the same shape as the product's: same names, two seconds of work, and an outcome by partition.

Its provisioning job is the product's.

Partitions `demo:slow*` wait until they are cancelled, `demo:broken` fails in its first step; all others succeed.
"""

import time
from collections.abc import Iterator

import dagster as dg

from explorer.contract.materializations import ListedTable, RawLoad, Tables
from explorer.contract.names import TENANT_PARTITIONS, AssetKeys, schedule_name
from explorer.contract.observations import LoadProgress
from explorer_dagster.provisioning import provisioning
from explorer_dagster.resources import Platform

PIPELINE = "commcare_sync"
KEYS = AssetKeys("commcare")
APP_STRUCTURE, RAW_CASES = KEYS.discovery("app_structure"), KEYS.raw("cases")
CASES, CASE_TABLES = KEYS.marts("cases"), KEYS.marts("case_tables")

tenants = dg.DynamicPartitionsDefinition(name=TENANT_PARTITIONS)


@dg.asset(key=APP_STRUCTURE, partitions_def=tenants, group_name="discovery", kinds={"commcare"})
def app_structure() -> dg.MaterializeResult[None]:
    """What the project space consists of."""
    return dg.MaterializeResult(metadata={"version": 1})


@dg.asset(key=RAW_CASES, deps=[app_structure], partitions_def=tenants, group_name="raw", kinds={"dlt"})
def raw_cases(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Cases as the API sends them."""
    if context.partition_key == "demo:broken":
        raise dg.Failure("CommCare refused the key.", allow_retries=False)
    context.log.info("Asked with Authorization: ApiKey user@example.org:0123456789abcdef")
    for rows in (2, 3):
        context.log_event(
            dg.AssetObservation(
                context.asset_key,
                partition=context.partition_key,
                metadata=LoadProgress(rows=rows, pages=1, expected=3).to_metadata(),
            )
        )
    while context.partition_key.startswith("demo:slow"):
        time.sleep(0.1)
    return dg.MaterializeResult(
        metadata=RawLoad(row_count=3, rows_landed=3, api_total=3, rows_rejected=1).to_metadata()
    )


@dg.asset(
    key=CASES,
    deps=[raw_cases],
    partitions_def=tenants,
    group_name="tables",
    kinds={"sql"},
    check_specs=[
        dg.AssetCheckSpec("unique_case_id", asset=CASES),
        dg.AssetCheckSpec("owner_known", asset=CASES),
    ],
)
def cases(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One row per case."""
    yield dg.MaterializeResult(
        metadata=Tables(row_count=3).to_metadata(),
        check_results=[
            dg.AssetCheckResult(check_name="unique_case_id", passed=True),
            dg.AssetCheckResult(check_name="owner_known", passed=False, severity=dg.AssetCheckSeverity.WARN),
        ],
    )


@dg.asset(
    key=CASE_TABLES,
    deps=[cases],
    partitions_def=tenants,
    group_name="tables",
    kinds={"sql"},
    check_specs=[
        dg.AssetCheckSpec("primary_keys", asset=CASE_TABLES),
        dg.AssetCheckSpec("accepted_values", asset=CASE_TABLES),
    ],
)
def case_tables() -> Iterator[dg.MaterializeResult[None]]:
    """One table per case type."""
    tables = (
        ListedTable(
            name="case_child",
            kind="case_type",
            source="child",
            description="Children.",
            row_count=2,
            status="success",
        ),
        ListedTable(name="case_x", kind="case_type", source="x", description="x", status="error", error="boom"),
    )
    yield dg.MaterializeResult(
        metadata=Tables(tables=tables).to_metadata(),
        check_results=[
            dg.AssetCheckResult(check_name=name, passed=False, severity=dg.AssetCheckSeverity.WARN)
            for name in ("primary_keys", "accepted_values")
        ],
    )


all_assets = [app_structure, raw_cases, cases, case_tables]
sync = dg.define_asset_job(PIPELINE, selection=all_assets, partitions_def=tenants)
defs = dg.Definitions(
    assets=all_assets,
    jobs=[sync, provisioning],
    resources={"platform": Platform()},
    schedules=[dg.ScheduleDefinition(schedule_name(PIPELINE), job=sync, cron_schedule="0 */6 * * *")],
    executor=dg.in_process_executor,
)
