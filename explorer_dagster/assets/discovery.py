"""The discovery asset: the tenant's structure, stored in versions in the catalog."""

from datetime import UTC

import dagster as dg

from explorer import registry
from explorer.catalog import DiscoveredVersion
from explorer.contract.bookkeeping.steps import Facts
from explorer.contract.materializations import Discovery
from explorer.contract.names import AssetKeys
from explorer.contract.records import Markdown
from explorer.core.errors import ExplorerError
from explorer.marts import get_ready
from explorer.providers.base import Outline, Provider
from explorer.registry import Pipeline
from explorer.telemetry.traces import span
from explorer_dagster.events import materialized
from explorer_dagster.failures import failure, failures_explained
from explorer_dagster.metadata import inert, markdown_table
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, TenantSession
from explorer_dagster.retries import postpone

GROUP = "discovery"
_MAX_CHANGES = 200


def discovery_assets(pipeline: Pipeline, provider: Provider) -> list[dg.AssetsDefinition]:
    """`<prefix>/<discovery>` of the pipeline, if it has one."""
    return [_asset(pipeline, provider, part) for part in pipeline.discovery]


def _asset(pipeline: Pipeline, provider: Provider, part: registry.Discovery) -> dg.AssetsDefinition:
    @dg.asset(
        key=AssetKeys(pipeline.asset_prefix).discovery(part.name),
        partitions_def=tenants,
        group_name=GROUP,
        kinds={pipeline.provider},
        owners=list(pipeline.owners),
        tags={"layer": GROUP},
        description=part.description,
        code_version="1",
    )
    def discovery(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with failures_explained():
            session = platform.session(context, pipeline)
            if pipeline.transforms:
                get_ready(session.dbt)
            with span("discovery"), session.step("discovery") as told:
                facts = _discover(context, session, pipeline, provider)
                told.facts = Facts(structure=facts.version, news=facts.since_the_last_sync if facts.changed else None)
        return materialized(None, facts, is_as_before=session.is_by_need and not facts.changed)

    return discovery


def _discover(
    context: dg.AssetExecutionContext, session: TenantSession, pipeline: Pipeline, provider: Provider
) -> Discovery:
    """Read the structure and store it.

    Raises:
        dagster.Failure: the run is marked for a retry if the server asked to wait.
    """
    discovered = session.catalog.discovered
    known = discovered.latest(session.tenant)
    try:
        with session.client(provider) as client:
            document = provider.discover(client, pipeline, known.structure if known else None)
    except ExplorerError as error:
        raise failure(error, postpone(context, [error.as_dict()])) from error
    version = discovered.save(session.tenant, document, diff=provider.diff, run_id=session.run_id)
    outline = provider.outline(document)
    for warning in outline.warnings:
        context.log.warning(warning)
    return Discovery(
        counts=outline.counts,
        version=version.version,
        changed=version.changed,
        since_the_last_sync=provider.headline(version.diff) if version.changed else "nothing",
        changes=Markdown(_changes(provider, version)),
        diff=version.diff,
        warnings=outline.warnings,
        requests=client.total_usage.requests,
        bytes=client.total_usage.bytes,
        found=Markdown(_summary(outline)),
    )


def _changes(provider: Provider, version: DiscoveredVersion) -> str:
    """The changes of this version, for the UI. In a first version everything is new, and `found` shows it."""
    since = f"Version {version.version}, found at {version.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if version.version == 1:
        return f"{since}, is the first."
    if not version.changed:
        return f"Nothing. {since}, still holds."
    lines = provider.sentences(version.diff)
    more = [f"- and {len(lines) - _MAX_CHANGES} more"] if len(lines) > _MAX_CHANGES else []
    return "\n".join([f"{since}:", "", *(f"- {inert(line)}" for line in lines[:_MAX_CHANGES]), *more])


def _summary(outline: Outline) -> str:
    return markdown_table(
        ("kind", "name", outline.size_title),
        ((kind, inert(name), str(size)) for kind, name, size in outline.parts),
    )
