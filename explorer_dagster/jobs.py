"""The job of each pipeline: all of its assets for one tenant, in one process."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from explorer.registry import Pipeline
from explorer_dagster.partitions import tenants


def sync_job(pipeline: Pipeline, assets: Sequence[dg.AssetsDefinition]) -> Any:
    """The job with the pipeline's name: a result of `define_asset_job`, whose type has no public name."""
    return dg.define_asset_job(
        pipeline.name,
        selection=dg.AssetSelection.assets(*assets),
        partitions_def=tenants,
        description=pipeline.description,
        executor_def=dg.in_process_executor,
    )
