"""The discovery asset: what the tenant's applications look like, kept as versions in the catalog."""

from collections.abc import Sequence
from datetime import UTC

import dagster as dg
import msgspec

from explorer.catalog import DiscoveredVersion
from explorer.catalog.structure_diff import headline, sentences
from explorer.core.errors import ExplorerError
from explorer.http.errors import PermissionMissing
from explorer.providers.commcare.discovery import discover
from explorer.providers.commcare.structure import Structure
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
        try:
            with session.client() as client:
                structure = discover(client, pipeline)
        except PermissionMissing as error:
            # The rest of the project space can still be read. What the applications said last still tells what it is made of; a
            # space whose applications were never read has tables from what the data itself shows.
            known = session.catalog.discovered.latest(session.tenant)
            last = Structure.from_dict(known.structure) if known else Structure(apps=(), case_types=(), forms=())
            structure = msgspec.structs.replace(last, warnings=(str(error),))
        except ExplorerError as error:
            raise failure(error, postpone(context, [error.as_dict()])) from error
        version = session.catalog.discovered.save(session.tenant, structure.to_dict(), run_id=context.run.run_id)
        for warning in structure.warnings:
            context.log.warning(warning)
        return dg.MaterializeResult(
            metadata={
                "apps": len(structure.apps),
                "case_types": len(structure.case_types),
                "forms": len(structure.forms),
                "questions": sum(len(form.questions) for form in structure.forms),
                "version": version.version,
                "changed": version.changed,
                "since_the_last_sync": headline(version.diff) if version.changed else "nothing",
                "changes": dg.MetadataValue.md(_changes(version)),
                "diff": dg.MetadataValue.json(version.diff),
                "warnings": dg.MetadataValue.json(list(structure.warnings)),
                "requests": client.total_usage.requests,
                "bytes": client.total_usage.bytes,
                "found": dg.MetadataValue.md(_summary(structure)),
            }
        )

    return app_structure


def _changes(version: DiscoveredVersion) -> str:
    """What this version brought, for the UI; of a first version everything is new, which `found` tells."""
    since = f"Version {version.version}, found at {version.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if version.version == 1:
        return f"{since}, is the first."
    if not version.changed:
        return f"Nothing. {since}, still holds."
    lines = sentences(version.diff)
    more = [f"- and {len(lines) - _MAX_CHANGES} more"] if len(lines) > _MAX_CHANGES else []
    return "\n".join([f"{since}:", "", *(f"- `{_inert(line)}`" for line in lines[:_MAX_CHANGES]), *more])


def _summary(structure: Structure) -> str:
    """A table for the UI; names typed by app builders are shown as code, where Markdown has no effect."""
    rows: Sequence[tuple[str, str, int]] = [
        *(("case type", case_type.name, len(case_type.properties)) for case_type in structure.case_types),
        *(("form", form.title, len(form.questions)) for form in structure.forms),
    ]
    lines = [f"| {kind} | `{_inert(name)}` | {count} |" for kind, name, count in rows]
    return "\n".join(["| kind | name | properties or questions |", "|---|---|---|", *lines])


def _inert(name: str) -> str:
    return name.replace("`", "'").replace("|", "/").replace("\n", " ")
