"""From which columns is each column of the static models computed? Read from their SQL, once per content of the dbt project.

The SQL is rendered without a database, as if every raw table existed and with casts as macro calls, so that an expression reads
`safe_date(record ->> 'dob')`. Uncertain lineage is left out, never guessed.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any

from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage, Origin

_log = logging.getLogger(__name__)

_MAX_EXPRESSION_CHARS = 300
# Steps of a recursive query that are followed: a column's origins may be those of another column in the step before.
_STEPS = 3
_RAW_SCHEMA_END = "_raw"
_CASTS_FILE = "macros/json.sql"
# Some macros have the names of SQL keywords.
_CALL = "macro__"
_CALLS = re.compile(rf"{_CALL}(\w+)\(\(([^()]*)\)\)")
_DOCUMENT_CASTS = frozenset({f"{_CALL}json_object", f"{_CALL}json_array"})

Path = tuple[str, ...]


def render(manifest: Any) -> dict[str, str]:
    """The SQL of each model of a dbt `Manifest` by relation name. Call it right after dbt parsed the manifest in this process."""
    from dbt.clients.jinja import get_rendered
    from dbt.config.runtime import RuntimeConfig
    from dbt.context.providers import generate_runtime_model_context
    from dbt.flags import get_flags
    from dbt_common.exceptions import DbtBaseException

    config = RuntimeConfig.from_args(get_flags())
    casts = {macro.name for macro in manifest.macros.values() if macro.original_file_path.endswith(_CASTS_FILE)}
    rendered = {}
    for node in manifest.nodes.values():
        if node.resource_type != "model":
            continue
        context = generate_runtime_model_context(node, config, manifest)
        # Macros query the database only while dbt executes.
        context |= {"execute": False, **{name: _call(name) for name in casts if not name.endswith("_pattern")}}
        try:
            rendered[node.alias] = get_rendered(node.raw_code, context, node)
        except DbtBaseException:
            _log.warning("Model %s cannot be rendered without a database; its column lineage stays unknown.", node.name)
    return rendered


def _call(name: str) -> Any:
    return lambda *arguments: f"{_CALL}{name}({', '.join(f'({argument})' for argument in arguments)})"


def lineage_of(rendered: Mapping[str, str]) -> Lineage:
    """Lineage of the models whose SQL `render` returned, for columns with certain origins."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    trees = {}
    for name, sql in rendered.items():
        try:
            trees[name] = _followable(parse_one(sql, dialect="postgres"))
        except SqlglotError:
            _log.warning("The SQL of model %s cannot be read; its column lineage stays unknown.", name)
    parents = {name: {table.name for table in tree.find_all(exp.Table) if table.db} for name, tree in trees.items()}
    found: Lineage = {}
    known: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for name in TopologicalSorter(parents).static_order():
        if name not in trees:
            continue
        _add_raw(known, trees[name])
        try:
            nodes = lineage(None, trees[name], known, dialect="postgres", trim_selects=False)
            found[name] = {column: told for column, node in nodes.items() if (told := _column(node)) is not None}
        except Exception:
            # The parser fails in many ways on unknown SQL; none of them may stop the build.
            _log.warning("The SQL of model %s does not tell where its columns come from.", name, exc_info=True)
            continue
        for tree in trees.values():
            for table in tree.find_all(exp.Table):
                if table.name == name and table.db:
                    _place(known, table, nodes)
    return found


def _followable(tree: Any) -> Any:
    """The tree with the same column origins, in a form that the library can follow."""
    _replace_lambdas(tree)
    _replace_rows_of_functions(tree)
    _unroll_recursion(tree)
    return tree


def _replace_lambdas(tree: Any) -> None:
    """The parser reads the function argument `record -> 'a'` as a lambda, which PostgreSQL does not have."""
    from sqlglot import exp

    for node in list(tree.find_all(exp.Lambda)):
        if len(node.expressions) == 1:
            node.replace(exp.JSONExtract(this=exp.column(node.expressions[0].name), expression=node.this))


def _replace_rows_of_functions(tree: Any) -> None:
    """Replaces `(select f(x) from g(y) as x)`, a value, by `(f(g(y)))`."""
    from sqlglot import exp

    for select in list(tree.find_all(exp.Select)):
        holder, clause = select.parent, select.args.get("from_")
        is_value = isinstance(holder, exp.Array) or (
            isinstance(holder, exp.Subquery) and not isinstance(holder.parent, (exp.From, exp.Join, exp.Lateral))
        )
        if not is_value or clause is None or len(select.expressions) != 1 or select.args.get("joins"):
            continue
        source = clause.this
        if not isinstance(source, exp.Table) or not isinstance(source.this, exp.Func):
            continue
        value = exp.Paren(this=select.expressions[0].unalias())
        for column in [column for column in value.find_all(exp.Column) if column.table == source.alias]:
            column.replace(source.this.copy())
        (select if isinstance(holder, exp.Array) else holder).replace(value)


def _unroll_recursion(tree: Any) -> None:
    """Replaces a recursive query's reference to itself by the rows of the steps before."""
    from sqlglot import exp

    for cte in list(tree.find_all(exp.CTE)):
        union = cte.this
        if not isinstance(union, exp.Union) or not any(_is_named(table, cte) for table in union.find_all(exp.Table)):
            continue
        rows = union.this
        for _ in range(_STEPS):
            step = union.expression.copy()
            for table in [table for table in step.find_all(exp.Table) if _is_named(table, cte)]:
                table.replace(
                    exp.Subquery(this=rows.copy(), alias=exp.TableAlias(this=exp.to_identifier(table.alias_or_name)))
                )
            rows = exp.Union(this=union.this.copy(), expression=step, distinct=False)
        cte.set("this", rows)
        cte.parent.set("recursive", False)


def _is_named(table: Any, cte: Any) -> bool:
    return table.name == cte.alias and not table.db


def _add_raw(known: dict[str, Any], tree: Any) -> None:
    """Add all columns of a raw table that a model names: for that model `*` means these."""
    from sqlglot import exp

    names = {column.name for column in tree.find_all(exp.Column) if column.name != "*"}
    for table in tree.find_all(exp.Table):
        if table.db.endswith(_RAW_SCHEMA_END):
            _place(known, table, names)


def _place(known: dict[str, Any], table: Any, columns: Any) -> None:
    relations = known.setdefault(table.catalog, {}).setdefault(table.db, {})
    relations.setdefault(table.name, {}).update(dict.fromkeys(columns, "text"))


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
        if not isinstance(node, kept) and node.name not in _DOCUMENT_CASTS:
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
    text = _CALLS.sub(r"\1(\2)", text)
    return text if len(text) <= _MAX_EXPRESSION_CHARS else f"{text[: _MAX_EXPRESSION_CHARS - 4]} ..."
