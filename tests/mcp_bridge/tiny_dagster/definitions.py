"""A code location of the same shape as the product's: same names, two seconds of work, and a fate by partition.

Partitions `demo:slow*` wait until they are cancelled, `demo:broken` fails in its first step; all others succeed.
"""

import time
from collections.abc import Iterator

import dagster as dg

tenants = dg.DynamicPartitionsDefinition(name="tenants")


@dg.asset(key=["commcare", "app_structure"], partitions_def=tenants, group_name="discovery", kinds={"commcare"})
def app_structure() -> dg.MaterializeResult[None]:
    """What the project space consists of."""
    return dg.MaterializeResult(metadata={"version": 1})


@dg.asset(
    key=["commcare", "raw", "cases"], deps=[app_structure], partitions_def=tenants, group_name="raw", kinds={"dlt"}
)
def raw_cases(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Cases as the API sends them."""
    if context.partition_key == "demo:broken":
        raise dg.Failure("CommCare refused the key.", allow_retries=False)
    for rows in (2, 3):
        context.log_event(
            dg.AssetObservation(
                context.asset_key, partition=context.partition_key, metadata={"rows": rows, "pages": 1, "expected": 3}
            )
        )
    while context.partition_key.startswith("demo:slow"):
        time.sleep(0.1)
    return dg.MaterializeResult(metadata={"dagster/row_count": 3, "rows_landed": 3, "api_total": 3, "rows_rejected": 1})


@dg.asset(
    key=["commcare", "marts", "cases"],
    deps=[raw_cases],
    partitions_def=tenants,
    group_name="marts",
    kinds={"dbt"},
    check_specs=[
        dg.AssetCheckSpec("unique_case_id", asset=["commcare", "marts", "cases"]),
        dg.AssetCheckSpec("owner_known", asset=["commcare", "marts", "cases"]),
    ],
)
def cases(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One row per case."""
    schema = dg.TableSchema(columns=[dg.TableColumn("case_id", "text", description="Id of the case.")])
    yield dg.MaterializeResult(
        metadata={"dagster/row_count": 3, "dagster/column_schema": schema},
        check_results=[
            dg.AssetCheckResult(check_name="unique_case_id", passed=True),
            dg.AssetCheckResult(check_name="owner_known", passed=False, severity=dg.AssetCheckSeverity.WARN),
        ],
    )


@dg.asset(
    key=["commcare", "marts", "case_tables"],
    deps=[cases],
    partitions_def=tenants,
    group_name="marts",
    kinds={"dbt"},
    check_specs=[
        dg.AssetCheckSpec("primary_keys", asset=["commcare", "marts", "case_tables"]),
        dg.AssetCheckSpec("accepted_values", asset=["commcare", "marts", "case_tables"]),
    ],
)
def case_tables() -> Iterator[dg.MaterializeResult[None]]:
    """One table per case type."""
    tables = [
        {
            "name": "case_child",
            "kind": "case_type",
            "source": "child",
            "description": "Children.",
            "row_count": 2,
            "status": "success",
        },
        {
            "name": "case_x",
            "kind": "case_type",
            "source": "x",
            "description": "x",
            "row_count": None,
            "status": "error",
            "error": "boom",
        },
    ]
    yield dg.MaterializeResult(
        metadata={"tables": tables},
        check_results=[
            dg.AssetCheckResult(
                check_name=name, passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"failing": [failing]}
            )
            for name, failing in (
                ("primary_keys", {"table": "case_x", "test": "primary_key_case_x", "failing_rows": 1}),
                ("accepted_values", {"table": "case_child", "test": "values_fit_case_child", "failing_rows": 2}),
            )
        ],
    )


all_assets = [app_structure, raw_cases, cases, case_tables]
sync = dg.define_asset_job("commcare_sync", selection=all_assets, partitions_def=tenants)
defs = dg.Definitions(
    assets=all_assets,
    jobs=[sync],
    schedules=[dg.ScheduleDefinition("commcare_sync_schedule", job=sync, cron_schedule="0 */6 * * *")],
    executor=dg.in_process_executor,
)
