"""dbt's manifest of a project: parsed as rarely as possible, without a database, and placed in a tenant's schemas."""

import shutil
from pathlib import Path
from typing import Any

from explorer.marts.dbt.arguments import parse_arguments
from explorer.marts.dbt.environment import environment, exclusive
from explorer.marts.dbt.errors import TransformFailed, first_lines
from explorer.marts.project import TenantProject

# A parsed project holds profiles.yml's defaults in place of a tenant, so that one tenant's parse can be the start of another's.
_ANY_PREFIX = "tenant"
_PARSED, _PARSED_FROM = "partial_parse.msgpack", "parsed_from"


def write_manifest(dbt_project: Path, target_dir: Path) -> Any:
    """Parse a dbt project without a database and write its manifest.json into `target_dir`. Returns dbt's `Manifest`.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    with exclusive(), environment({}):
        return parse(dbt_project, target_dir)


def tenant_manifest(project: TenantProject, database: str) -> Any:
    """The parsed project, placed in the tenant's schemas. dbt parses files that changed since the last parse; when none did, it
    does not run: even finding that out takes it half a second."""
    import dbt.version
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    parsed, marker = project.target_dir / _PARSED, project.target_dir / _PARSED_FROM
    state = f"{dbt.version.__version__} {project.content_hash}"
    if not parsed.is_file() or not marker.is_file() or marker.read_text() != state:
        copy_parse_before(project)
        with environment({}):
            parse(project.dir, project.target_dir, "--no-write-json")
        marker.write_text(state)
    manifest = Manifest.from_msgpack(parsed.read_bytes(), decoder=extended_mashumuro_decoder)
    _place_in_schemas(manifest, project.schemas.prefix, database)
    return manifest


def parse(folder: Path, target: Path, *options: str) -> Any:
    """dbt's `Manifest` of the project; it is written into `target` too. Raises: TransformFailed: dbt cannot read the project."""
    from dbt.cli.main import dbtRunner

    outcome = dbtRunner().invoke(parse_arguments(folder, target, *options))
    if not outcome.success:
        raise TransformFailed(
            f"dbt cannot read the project: {first_lines(outcome.exception)}", next_step="Correct the file named there."
        ) from outcome.exception
    return outcome.result


def copy_parse_before(project: TenantProject) -> None:
    """If the project was never parsed, copy the parse of the static models, so that dbt starts from it."""
    parsed = project.target_dir / _PARSED
    if not parsed.is_file() and project.parsed_before is not None:
        shutil.copyfile(project.parsed_before / _PARSED, parsed)


def _place_in_schemas(manifest: Any, prefix: str, database: str) -> None:
    for node in (*manifest.nodes.values(), *manifest.sources.values()):
        old = f'"{node.database}"."{node.schema}".'
        node.database = database
        node.schema = node.schema.replace(_ANY_PREFIX, prefix, 1)
        if node.relation_name:
            node.relation_name = node.relation_name.replace(old, f'"{database}"."{node.schema}".', 1)
    for node in manifest.nodes.values():
        # dbt writes this name into each of its events.
        node.meta = node.config.meta = {}
    manifest.build_flat_graph()
