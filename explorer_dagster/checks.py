"""Asset checks: their specs and results in Dagster's types. The comparisons know no Dagster: `explorer.load.checks` for raw
tables, `explorer.tables.engine` for tables of one row per record, dbt's tests for models."""

import warnings

import dagster as dg

from explorer.contract.checks import CheckOutcome
from explorer_dagster.metadata import as_metadata
from explorer_dagster.partitions import tenants


def check_spec(asset: dg.AssetKey, name: str, about: str | None) -> dg.AssetCheckSpec:
    """A check with a state of its own for each tenant."""
    with warnings.catch_warnings():
        # Dagster 1.13 calls the partitions of checks a preview.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(name, asset=asset, description=about, partitions_def=tenants)


def check_result(asset: dg.AssetKey, outcome: CheckOutcome) -> dg.AssetCheckResult:
    """The result of a check of the asset."""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.is_error else dg.AssetCheckSeverity.WARN,
        description=outcome.description,
        metadata=as_metadata(outcome.facts),
    )
