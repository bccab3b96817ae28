"""What did dbt compile for each table and its tests in the last build?"""

from collections.abc import Collection, Iterable, Iterator
from typing import LiteralString

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, STATEMENTS, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade


class Statement(msgspec.Struct, frozen=True):
    """The compiled SQL of a model (`sql` returns its rows) or of a test (`sql` returns its count of failures)."""

    unique_id: str
    name: str
    resource_type: str
    sql: str
    attached_node: str | None
    severity: str


class CompiledModel(msgspec.Struct, frozen=True):
    """A compiled model. `definition`: hash of the model's definition; `raw_tables`: those that existed; `parents`: models that it
    reads; `key`: column by which a build can be limited to changed rows."""

    definition: str
    raw_tables: frozenset[str]
    parents: frozenset[str]
    key: str | None


class CompiledNode(msgspec.Struct, frozen=True):
    """A statement of `model` or of one of its tests, and what it was compiled from."""

    model: str
    compiled: CompiledModel
    statement: Statement


def models(connection: Connection, schemas: Schemas) -> dict[str, CompiledModel]:
    """The compiled models, by name."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL("select node, definition, raw_tables, parents, key from {} where node = model")
    return {
        name: CompiledModel(definition, frozenset(raw_tables), frozenset(parents), key)
        for name, definition, raw_tables, parents, key in connection.execute(query.format(_place(schemas)))
    }


def of_models(connection: Connection, schemas: Schemas, names: Collection[str]) -> Iterator[CompiledNode]:
    """The statements of the models, without their tests."""
    return _nodes(connection, schemas, "node = model and node = any(%s)", list(names))


def of_tests(
    connection: Connection, schemas: Schemas, reading: Collection[str], but_not: Collection[str]
) -> Iterator[CompiledNode]:
    """Statements of the tests that read one of the models `reading` and none of `but_not`, in a fixed order."""
    condition: LiteralString = "node <> model and parents && %s and not parents && %s order by node"
    return _nodes(connection, schemas, condition, list(reading), list(but_not))


def write(
    connection: Connection,
    schemas: Schemas,
    nodes: Iterable[CompiledNode],
    *,
    replaced: Collection[str],
    current: Collection[str],
) -> None:
    """Replace the statements of the models `replaced` by `nodes`; delete those of models that are not `current`."""
    place = _place(schemas)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("delete from {} where model = any(%s) or model <> all(%s)").format(place),
            [list(replaced), list(current)],
        )
        with cursor.copy(sql.SQL("copy {} from stdin").format(place)) as copy:
            for node in nodes:
                copy.write_row(_row(node))


def _nodes(
    connection: Connection, schemas: Schemas, condition: LiteralString, *values: object
) -> Iterator[CompiledNode]:
    columns: LiteralString = "select model, definition, raw_tables, parents, key, statement from {} where "
    query = sql.SQL(columns + condition).format(_place(schemas))
    for model, definition, raw_tables, parents, key, statement in connection.execute(query, values):
        compiled = CompiledModel(definition, frozenset(raw_tables), frozenset(parents), key)
        yield CompiledNode(model, compiled, msgspec.json.decode(statement, type=Statement))


def _row(node: CompiledNode) -> tuple[object, ...]:
    compiled, statement = node.compiled, msgspec.json.encode(node.statement).decode()
    lists = sorted(compiled.raw_tables), sorted(compiled.parents)
    return node.statement.name, node.model, compiled.definition, *lists, compiled.key, statement


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, STATEMENTS)
