"""What does a GraphQL request ask for, and would it change something? Parsed once, so that nothing reads it differently."""

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
)
from starlette.datastructures import Headers, QueryParams

# The audit trail shows each of them.
MOST_CHANGES = 20


class Refused(Exception):
    """Why a request is refused: status and text of the answer."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


@dataclass(frozen=True)
class GraphQLRequest:
    """A parsed GraphQL request. `changes`: one of its operations is no plain query; `mutations`: the names of what its mutations
    do, in whichever operation."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    changes: bool
    mutations: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Raises: Refused."""
        query, variables, name = given.get("query"), given.get("variables"), given.get("operationName")
        if isinstance(variables, str):
            variables = _json(variables, "`variables`")
        if not isinstance(query, str) or not isinstance(variables, dict | None) or not isinstance(name, str | None):
            raise Refused("`query` is not a text, `variables` not an object, or `operationName` not a text", 400)
        return cls(query, variables, name, *changes_of(query))

    def as_address(self) -> bytes:
        """The parsed request as a query string, and nothing else."""
        written = {"query": self.query, "operationName": self.operation_name}
        if self.variables is not None:
            written["variables"] = json.dumps(self.variables)
        return urllib.parse.urlencode({name: value for name, value in written.items() if value is not None}).encode()

    def as_body(self) -> bytes:
        """The parsed request as an ASCII body, which every parser reads in the same way."""
        content = {"query": self.query, "variables": self.variables, "operationName": self.operation_name}
        return json.dumps(content).encode()


def changes_of(query: str) -> tuple[bool, tuple[str, ...]]:
    """Whether any operation of a GraphQL document could change something, and the different names of all fields of its
    mutations.

    Raises:
        Refused: it cannot be parsed, or has more mutations than an audit entry shows.
    """
    try:
        definitions = parse(query).definitions
        operations = [node for node in definitions if isinstance(node, OperationDefinitionNode)]
        fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}
        found: dict[str, None] = {}
        for node in operations:
            if node.operation is OperationType.MUTATION:
                found |= dict.fromkeys(_fields(node.selection_set, fragments, set()))
    except (GraphQLError, RecursionError) as error:
        why = error.message if isinstance(error, GraphQLError) else "it is nested too deeply"
        raise Refused(f"`query` cannot be parsed: {why}", 400) from None
    if len(found) > MOST_CHANGES:
        raise Refused(f"more than {MOST_CHANGES} different changes in one request", 400)
    return any(node.operation is not OperationType.QUERY for node in operations), tuple(found)


def _fields(
    selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], entered: set[str]
) -> Iterator[str]:
    """The names of the fields, through fragments; each fragment is entered once. One that is not there is named itself: it makes
    the document invalid, which Dagster tells."""
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments, entered)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in entered:
            entered.add(node.name.value)
            fragment = fragments.get(node.name.value)
            yield from _fields(fragment.selection_set, fragments, entered) if fragment else [node.name.value]


def read_address(query_string: bytes) -> GraphQLRequest | None:
    """The query in the URL of a GET of `/graphql`; None for the page itself.

    Raises:
        Refused: also for every change, with any token: links can be planted in pages of our own origin too.
    """
    given = QueryParams(query_string)
    if "query" not in given:
        return None
    if len(given.multi_items()) != len(given):
        raise Refused("the address names something twice", 400)
    # The page writes this when it has no variables.
    request = GraphQLRequest.of({name: value or None for name, value in given.items()} | {"query": given["query"]})
    if request.changes:
        raise Refused("mutations are sent by POST")
    return request


def read_body(headers: Headers, body: bytes) -> GraphQLRequest:
    """The request in the body of a POST. Raises: Refused."""
    content_type = headers.get("content-type", "")
    kind, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused(f"a body of type {content_type[:80]!r} is not understood", 415)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused("the body is not UTF-8", 400) from None
    given = _json(text, "the body")
    if not isinstance(given, dict):
        raise Refused("the body is not one request: a JSON object with `query`", 400)
    return GraphQLRequest.of(given)


def _json(text: str, what: str) -> Any:
    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        return json.loads(text, object_pairs_hook=without_doubles, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} cannot be parsed as JSON: {error}", 400) from None
