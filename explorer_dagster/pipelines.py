"""What does Dagster run for one pipeline? Five steps of assets (discovery, raw, tables, dbt, saved models), their job, its
schedules."""

import hashlib
from collections.abc import Sequence
from typing import Any

import dagster as dg

from explorer.core.settings import get_settings
from explorer.marts import Models, is_current, manifest
from explorer.marts.definitions import definitions
from explorer.providers import provider_named
from explorer.registry import Pipeline
from explorer_dagster.assets.dbt import dbt_models, model_keys
from explorer_dagster.assets.discovery import discovery_assets
from explorer_dagster.assets.loading import raw_assets
from explorer_dagster.assets.saved_models import saved_models, saved_models_are_current
from explorer_dagster.assets.tables import TableAssets, table_step, tables_are_current
from explorer_dagster.resources import TenantSession
from explorer_dagster.turns.schedules import schedules


def definitions_of(pipeline: Pipeline) -> dg.Definitions:
    """Everything but resources and sensors, which all pipelines share."""
    provider, models = provider_named(pipeline.provider), _models(pipeline)
    turns = schedules(pipeline, provider, _version(pipeline, models))
    tables = TableAssets(pipeline, provider)
    taken = models.by_name.keys()

    def is_up_to_date(session: TenantSession) -> bool:
        return (
            tables_are_current(session, tables, taken)
            and (not models.built or is_current(session.dbt, models))
            and saved_models_are_current(session)
        )

    assets = [
        *discovery_assets(pipeline, provider),
        raw_assets(pipeline, provider, is_up_to_date),
        *table_step(pipeline, tables, taken=taken),
        *dbt_models(pipeline, models, tables),
        saved_models(pipeline, [*tables.keys.values(), *model_keys(pipeline, models, tables)]),
    ]
    return dg.Definitions(assets=assets, jobs=[_sync_job(pipeline, assets)], schedules=turns)


def version_of(pipeline: Pipeline) -> str:
    """A hash of all that a run of the pipeline uses, but for when it runs: of its file, and of the models."""
    return _version(pipeline, _models(pipeline))


def _models(pipeline: Pipeline) -> Models:
    return Models(manifest(get_settings(), pipeline.provider))


def _version(pipeline: Pipeline, models: Models) -> str:
    own = pipeline.model_dump_json(exclude={"schedule", "full_refresh", "owners"})
    built = definitions(get_settings(), models) if models.built else {}
    return hashlib.sha256(repr((own, sorted(built.items()))).encode()).hexdigest()


def _sync_job(pipeline: Pipeline, assets: Sequence[dg.AssetsDefinition]) -> Any:
    """The job with the pipeline's name: a result of `define_asset_job`, whose type has no public name."""
    return dg.define_asset_job(
        pipeline.name,
        selection=dg.AssetSelection.assets(*assets),
        description=pipeline.description,
        executor_def=dg.in_process_executor,
    )
