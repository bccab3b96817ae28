"""The GraphQL documents are valid in Dagster's own schema, and none requests more than it says."""

import httpx
import pytest
from graphql import (
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    build_client_schema,
    get_introspection_query,
    parse,
    validate,
)

from mcp_bridge.clients.dagster.documents import documents

CHANGES = {"launch", "terminate", "add_partition", "delete_partitions"}


@pytest.fixture(scope="module")
def schema(dagster_url: str) -> GraphQLSchema:
    """What the running Dagster says of itself."""
    answer = httpx.post(f"{dagster_url}/graphql", json={"query": get_introspection_query()}, timeout=60)
    return build_client_schema(answer.raise_for_status().json()["data"])


@pytest.mark.parametrize("name", documents())
def test_dagsters_schema_takes_the_document(name: str, schema: GraphQLSchema) -> None:
    assert validate(schema, parse(documents()[name])) == []


@pytest.mark.parametrize("name", documents())
def test_only_changes_are_mutations_and_each_file_holds_one_operation(name: str) -> None:
    (operation,) = (part for part in parse(documents()[name]).definitions if isinstance(part, OperationDefinitionNode))
    assert (operation.operation is OperationType.MUTATION) == (name in CHANGES)
    assert operation.name is not None
    assert operation.name.value == "".join(word.capitalize() for word in name.split("_"))


def test_a_document_with_a_field_that_is_not_there_would_be_refused(schema: GraphQLSchema) -> None:
    asked = documents()["health"].replace("version", "versionOfNothing")
    assert [error.message for error in validate(schema, parse(asked))] != []
