"""Asset checks: their specs and results in Dagster's types. The comparisons know no Dagster: `explorer.load.checks` for raw
tables, `explorer.marts.table_checks` for generated ones, dbt's tests for static models."""

from collections.abc import Mapping

import dagster as dg

from explorer.contract.checks import CheckOutcome
from explorer_dagster.metadata import as_metadata


def check_specs(asset: dg.AssetKey, described: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """The checks of an asset: name to description."""
    return [dg.AssetCheckSpec(name, asset=asset, description=about) for name, about in described.items()]


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
