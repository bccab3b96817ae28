"""Stores what dbt compiled, so that it can run again without dbt."""

from collections.abc import Collection, Mapping, Sequence

from explorer.contract.bookkeeping import statements
from explorer.contract.bookkeeping.statements import CompiledModel, CompiledNode, Statement
from explorer.marts.changes.conditions import is_marked
from explorer.marts.dbt.results import NodeResult, name_of
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection


def keep_compiled(
    connection: Connection,
    project: TenantProject,
    definitions: Mapping[str, str],
    raw_tables: Collection[str],
    results: Sequence[NodeResult],
) -> None:
    """Store the SQL that dbt compiled for tables and their tests. `definitions`: of all models; `results`: of a run. Results
    without SQL were not compiled by dbt."""
    tests: dict[str, list[NodeResult]] = {}
    for result in results:
        if result.resource_type == "test" and result.tested_model:
            tests.setdefault(result.tested_model, []).append(result)
    nodes: list[CompiledNode] = []
    models = [result for result in results if result.resource_type == "model" and result.sql]
    for model in models:
        own = [model, *tests.get(model.name, ())]
        # A test that dbt did not run cannot be run without dbt either.
        if model.status == "success" and all(node.sql for node in own):
            nodes += [_compiled(project, node, model.name, definitions[model.name], raw_tables) for node in own]
    statements.write(connection, project.schemas, nodes, replaced=[model.name for model in models], current=definitions)


def _compiled(
    project: TenantProject, node: NodeResult, model: str, definition: str, raw_tables: Collection[str]
) -> CompiledNode:
    statement = Statement(node.unique_id, node.name, node.resource_type, node.sql, node.attached_node, node.severity)
    parents = frozenset(name_of(parent) for parent in node.depends_on if parent.startswith("model."))
    keys = project.change_keys if node.name == model else ()
    key = next((key for key in keys if is_marked(node.sql, key)), None)
    return CompiledNode(model, CompiledModel(definition, frozenset(raw_tables), parents, key), statement)
