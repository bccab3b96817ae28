"""From which columns is each column of a model computed? Read from the SQL that dbt compiled for the tenant.

Uncertain lineage is left out, never guessed.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any

from explorer.contract.bookkeeping import lineage as lineage_records
from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage, Origin
from explorer.contract.schemas import TenantSchemas
from explorer.marts.manifest import Models
from explorer.postgres.connections import Connection
from explorer.postgres.relations import Columns

_log = logging.getLogger(__name__)

# Version of the stored lineage. Change it when the same SQL yields more than before.
_FORMAT = 3
_MAX_EXPRESSION_CHARS = 300

Path = tuple[str, ...]


def write(
    connection: Connection, schemas: TenantSchemas, models: Models, columns: Columns, target: File, *, version: str
) -> None:
    """Store the lineage of the models that dbt compiled into `target`, unless it is stored already. `columns`: of the tenant's
    relations; `version`: of the project."""
    compiled = {node["alias"]: file for node in models.by_name.values() if (file := _compiled(target, node)).is_file()}

    def whole() -> Lineage:
        return {name: lineage_of(name, file.read_text(), columns) for name, file in compiled.items()}

    known = f"{_prefix(version)}{' '.join(sorted(compiled))}"
    lineage_records.write(connection, schemas, whole, part="models", version=known)


def is_written(connection: Connection, schemas: TenantSchemas, *, version: str) -> bool:
    """Whether the lineage of this version is stored, of whichever models dbt had compiled."""
    return (lineage_records.version_of(connection, schemas, part="models") or "").startswith(_prefix(version))


def _prefix(version: str) -> str:
    return f"{_FORMAT} {version} "


def _compiled(target: File, node: Mapping[str, Any]) -> File:
    return target / "compiled" / str(node["package_name"]) / str(node["original_file_path"])


def lineage_of(name: str, sql: str, columns: Columns) -> dict[str, ColumnLineage]:
    """Lineage of the columns of the model `name` with certain origins. `columns`: of all relations that it may read."""
    from sqlglot import exp, parse_one
    from sqlglot.lineage import lineage

    try:
        tree = parse_one(sql, dialect="postgres")
        _replace_lambdas(tree)
        read: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
        for table in tree.find_all(exp.Table):
            if known := columns.get(table.db, {}).get(table.name):
                read.setdefault(table.catalog, {}).setdefault(table.db, {})[table.name] = dict(known)
        nodes = lineage(None, tree, read, dialect="postgres", trim_selects=False)
        return {column: each for column, node in nodes.items() if (each := _column(node)) is not None}
    except Exception:
        # The parser fails in many ways on unknown SQL; none of them may stop the build.
        _log.warning("The SQL of model %s does not tell where its columns come from.", name, exc_info=True)
        return {}


def _replace_lambdas(tree: Any) -> None:
    """The parser reads the function argument `record -> 'a'` as a lambda, which PostgreSQL does not have."""
    from sqlglot import exp

    for node in list(tree.find_all(exp.Lambda)):
        if len(node.expressions) == 1:
            node.replace(exp.JSONExtract(this=exp.column(node.expressions[0].name), expression=node.this))


def _column(root: Any) -> ColumnLineage | None:
    origins = {origin for origin, _ in _origins(root) if origin is not None}
    if not origins and any(origin is None for origin, _ in _origins(root)):
        return None
    whole = {(origin.table, origin.column) for origin in origins if not origin.path}
    kept = (origin for origin in origins if not origin.path or (origin.table, origin.column) not in whole)
    return ColumnLineage(tuple(sorted(kept)), _expression(root))


def _origins(node: Any) -> Iterator[tuple[Origin | None, bool]]:
    """The relation columns that the expression reads, with the JSON path within each; None for origins that cannot be followed,
    such as a recursive query's own rows. The flag: the value is still JSON at that path, so that the path may continue."""
    from sqlglot import exp

    if not node.downstream:
        if isinstance(node.source, exp.Table) and node.source.db:
            column = node.name.rpartition(".")[2].strip('"')
            yield None if column == "*" else Origin(node.source.name, column), True
        elif isinstance(node.source, (exp.Placeholder, exp.Table)) or node.expression.find(exp.Column):
            yield None, False
        return
    for child in node.downstream:
        reads = _reads(node, child)
        for origin, is_document in _origins(child):
            for path, keeps in reads:
                going_on = path if is_document else ()
                found = origin and Origin(origin.table, origin.column, (*origin.path, *going_on))
                yield found, is_document and keeps


def _reads(node: Any, child: Any) -> set[tuple[Path, bool]]:
    """The JSON paths at which the expression reads the column of `child`, and whether the value is passed on unchanged."""
    from sqlglot import exp

    expression, values = node.expression, node.source.find(exp.Values) if isinstance(node.source, exp.UDTF) else None
    if values is not None:
        # Other columns of the same rows are no origin of this one.
        place = [column.name for column in node.source.args["alias"].columns].index(node.name.rpartition(".")[2])
        expression = exp.Tuple(expressions=[row.expressions[place].copy() for row in values.expressions])
    elif isinstance(node.source, exp.UDTF):
        return {((), False)}
    found = {
        _read(column, expression)
        for column in expression.find_all(exp.Column)
        if f"{column.table}.{column.name}" == child.name.replace('"', "")
    }
    return found if found or values is not None else {((), True)}


def _read(column: Any, expression: Any) -> tuple[Path, bool]:
    from sqlglot import exp

    path, node = _path(column)
    kept = (exp.Alias, exp.Paren, exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Cast, exp.DPipe)
    while node is not expression and node.parent is not None:
        node = node.parent
        if not isinstance(node, kept):
            return path, False
    return path, True


def _path(column: Any) -> tuple[Path, Any]:
    """The constant keys taken from a JSON column: `a`, `b` of `column -> 'a' ->> 'b'` and of `column #>> '{a,b}'`; and the
    expression that takes the last key."""
    from sqlglot import exp

    keys: list[str] = []
    node = column
    while isinstance(node.parent, (exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract, exp.JSONBExtractScalar)):
        if node.parent.this is not node:
            break
        taken = _keys(node.parent)
        if taken is None:
            break
        keys += taken
        node = node.parent
    return tuple(keys), node


def _keys(extract: Any) -> list[str] | None:
    from sqlglot import exp

    at = extract.expression
    if isinstance(at, exp.JSONPath):
        parts = at.expressions[1:]
        return [str(part.this) for part in parts] if all(isinstance(p, exp.JSONPathKey) for p in parts) else None
    if not isinstance(at, exp.Literal) or not at.is_string:
        return None
    text = str(at.this)
    if isinstance(extract, (exp.JSONBExtract, exp.JSONBExtractScalar)):
        return text[1:-1].split(",") if text.startswith("{") and text.endswith("}") and '"' not in text else None
    return [text]


def _expression(root: Any) -> str | None:
    """The nearest expression that does more than pass a column on; None if there is none."""
    from sqlglot import exp

    node = root
    while isinstance(node.expression.unalias(), exp.Column) and len(node.downstream) == 1:
        node = node.downstream[0]
    expression = node.expression.unalias()
    if isinstance(expression, (exp.Table, exp.Column, exp.Identifier)) or expression.find(exp.Placeholder):
        return None
    text: str = expression.sql(dialect="postgres", comments=False, normalize_functions=False)
    return text if len(text) <= _MAX_EXPRESSION_CHARS else f"{text[: _MAX_EXPRESSION_CHARS - 4]} ..."
