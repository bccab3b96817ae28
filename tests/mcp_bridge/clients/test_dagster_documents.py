"""The GraphQL documents are valid in Dagster's own schema, and none requests more than it says."""

import pytest
from dagster_graphql.schema import create_schema
from graphql import OperationDefinitionNode, OperationType, parse, validate

from mcp_bridge.clients.dagster.documents import documents

CHANGES = {"launch", "terminate", "add_partition", "delete_partitions"}


@pytest.fixture(scope="module")
def schema() -> object:
    return create_schema().graphql_schema


@pytest.mark.parametrize("name", documents())
def test_dagsters_schema_takes_the_document(name: str, schema: object) -> None:
    assert validate(schema, parse(documents()[name])) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", documents())
def test_only_changes_are_mutations_and_each_file_holds_one_operation(name: str) -> None:
    (operation,) = (part for part in parse(documents()[name]).definitions if isinstance(part, OperationDefinitionNode))
    assert (operation.operation is OperationType.MUTATION) == (name in CHANGES)
    assert operation.name is not None
    assert operation.name.value == "".join(word.capitalize() for word in name.split("_"))


def test_a_document_with_a_field_that_is_not_there_would_be_refused(schema: object) -> None:
    asked = documents()["health"].replace("version", "versionOfNothing")
    assert [error.message for error in validate(schema, parse(asked))] != []  # type: ignore[arg-type]
