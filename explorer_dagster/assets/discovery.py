"""The discovery asset: what the tenant is made of, kept as versions in the catalog."""

from datetime import UTC

import dagster as dg

from explorer.catalog import DiscoveredVersion
from explorer.core.errors import ExplorerError
from explorer.providers.base import Outline, Provider
from explorer.registry import Pipeline
from explorer_dagster import failures as causes
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, failure
from explorer_dagster.retries import postpone

_MAX_CHANGES = 200


def discovery_asset(pipeline: Pipeline) -> dg.AssetsDefinition:
    """`<prefix>/app_structure` of the pipeline."""
    (part,) = pipeline.discovery

    @dg.asset(
        key=[pipeline.asset_prefix, part.name],
        partitions_def=tenants,
        group_name="discovery",
        kinds={pipeline.provider},
        owners=list(pipeline.owners),
        description=part.description,
        code_version="1",
    )
    def app_structure(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with causes.told():
            return looked_at(context, platform)

    def looked_at(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]
        session = platform.session(context)
        provider, discovered = session.provider, session.catalog.discovered
        known = discovered.latest(session.tenant)
        try:
            with session.client() as client:
                document = provider.discover(client, pipeline, known.structure if known else None)
        except ExplorerError as error:
            raise failure(error, postpone(context, [error.as_dict()])) from error
        version = discovered.save(session.tenant, document, diff=provider.diff, run_id=context.run.run_id)
        outline = provider.outline(document)
        for warning in outline.warnings:
            context.log.warning(warning)
        return dg.MaterializeResult(
            metadata={
                **outline.counts,
                "version": version.version,
                "changed": version.changed,
                "since_the_last_sync": provider.headline(version.diff) if version.changed else "nothing",
                "changes": dg.MetadataValue.md(_changes(provider, version)),
                "diff": dg.MetadataValue.json(version.diff),
                "warnings": dg.MetadataValue.json(list(outline.warnings)),
                "requests": client.total_usage.requests,
                "bytes": client.total_usage.bytes,
                "found": dg.MetadataValue.md(_summary(outline)),
            }
        )

    return app_structure


def _changes(provider: Provider, version: DiscoveredVersion) -> str:
    """What this version brought, for the UI; of a first version everything is new, which `found` tells."""
    since = f"Version {version.version}, found at {version.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if version.version == 1:
        return f"{since}, is the first."
    if not version.changed:
        return f"Nothing. {since}, still holds."
    lines = provider.sentences(version.diff)
    more = [f"- and {len(lines) - _MAX_CHANGES} more"] if len(lines) > _MAX_CHANGES else []
    return "\n".join([f"{since}:", "", *(f"- `{_inert(line)}`" for line in lines[:_MAX_CHANGES]), *more])


def _summary(outline: Outline) -> str:
    """A table for the UI; names typed by app builders are shown as code, where Markdown has no effect."""
    lines = [f"| {kind} | `{_inert(name)}` | {size} |" for kind, name, size in outline.parts]
    return "\n".join([f"| kind | name | {outline.size_title} |", "|---|---|---|", *lines])


def _inert(name: str) -> str:
    return name.replace("`", "'").replace("|", "/").replace("\n", " ")
