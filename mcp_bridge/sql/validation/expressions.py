"""What are the names and sizes in the result of an expression, and how much work is it?

There is one method per kind of node, `_value_<Kind>`. A node without a method is as large as its parts together.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mcp_bridge.sql.validation import costs
from mcp_bridge.sql.validation.budget import Budget
from mcp_bridge.sql.validation.costs import CELL, GATHERED, SCALAR
from mcp_bridge.sql.validation.names import SMALL, Columns, NameLookup, Scope, Value, same_row, told_by
from mcp_bridge.sql.validation.rules import Rules
from mcp_bridge.sql.validation.tree import (
    Json,
    Positions,
    ends_with_star,
    literal,
    literal_number,
    literal_text,
    strings,
)

# Functions that name their columns in FROM. The column of other functions has their alias or their own name.
OUT_COLUMNS = {
    **dict.fromkeys(("json_each", "jsonb_each", "json_each_text", "jsonb_each_text"), ("key", "value")),
    **dict.fromkeys(
        ("json_array_elements", "jsonb_array_elements", "json_array_elements_text", "jsonb_array_elements_text"),
        ("value",),
    ),
}
_ROW_FUNCTIONS = frozenset({"lag", "lead", "first_value", "last_value", "nth_value", "any_value"})
_LIST_FUNCTIONS = frozenset(
    """
    array_append array_prepend array_cat array_remove array_replace array_fill array_positions trim_array array_sort array_reverse
    array_sample array_shuffle string_to_array regexp_split_to_array regexp_match regexp_matches tsvector_to_array
    """.split()  # noqa: SIM905
)


class Expressions:
    """The results of expressions in a scope. `select` finds the columns of a query inside an expression."""

    def __init__(
        self, rules: Rules, positions: Positions, budget: Budget, select: Callable[[Json, Scope], Columns]
    ) -> None:
        self._rules = rules
        self._names = NameLookup(rules)
        self._positions = positions
        self._budget = budget
        self._select = select

    def value(self, node: Json | None, scope: Scope) -> Value:
        """The result of one expression; a small value when there is none. Raises `QueryRejected`."""
        if not node:
            return SMALL
        # Recursive queries, and the queries inside them, are checked more than once.
        self._budget.step()
        if len(node) == 1:
            ((kind, inner),) = node.items()
            method = getattr(self, f"_value_{kind}", None)
            if method is not None:
                value: Value = method(inner, scope)
                return value
            if kind[:1].isupper() and isinstance(inner, dict):
                return self._parts(inner, scope)
        return self._parts(node, scope)

    def all(self, nodes: Any, scope: Scope) -> None:
        """Check each of the expressions."""
        for node in nodes or ():
            self.value(node, scope)

    def row(self, parts: Sequence[Json], scope: Scope) -> list[Value]:
        """The parts of ROW(...) or of a line of VALUES, where PostgreSQL replaces a star by its columns."""
        values: list[Value] = []
        for part in parts:
            star = self.star(part, scope)
            values += [self.value(part, scope).as_column()] if star is None else [value for _, value in star]
        return values

    def star(self, node: Json, scope: Scope) -> Columns | None:
        """The columns of `*`, `x.*` and `(row).*`; None for other expressions."""
        if not ends_with_star(node):
            return None
        if "ColumnRef" in node:
            names = strings(node["ColumnRef"]["fields"])
            if not names:
                columns = tuple(scope.levels[0].star)
            else:
                columns = self._names.from_item(names, scope, self._positions.of(node["ColumnRef"])).columns
            self._rules.reads_personal(told_by(value for _, value in columns))
            return columns
        return self.value(node, scope).fields or ()

    def _parts(self, node: Json, scope: Scope) -> Value:
        """An expression without a method of its own: as large as its parts together."""
        parts = [
            self.value(piece, scope)
            for name, part in node.items()
            for piece in (part if isinstance(part, list) else (part,))
            if isinstance(piece, dict) and piece and name not in ("typeName", "funcname", "name")
        ]
        return Value(costs.cap(max(sum(part.size for part in parts), SCALAR)), tells=told_by(parts))

    def _value_A_Const(self, node: Json, _scope: Scope) -> Value:
        text = literal(node)
        return Value(max(len(text.encode("utf-8", "replace")), 1) if text is not None else 16)

    def _value_ColumnRef(self, node: Json, scope: Scope) -> Value:
        names, at = strings(node["fields"]), self._positions.of(node)
        if "A_Star" in node["fields"][-1]:
            value = self._names.from_item(names, scope, at).row() if names else Value()
        else:
            value = self._names.column(names, scope, at)
        self._rules.reads_personal(value.tells)
        return value

    def _value_A_Indirection(self, node: Json, scope: Scope) -> Value:
        value = self.value(node["arg"], scope)
        for step in node["indirection"]:
            if "String" in step:
                value = self._names.field_of(value, step["String"].get("sval", ""), self._positions.of_nearest(node))
            elif "A_Star" in step:
                if value.fields is None:
                    self._rules.unsupported("A star behind what is no row", self._positions.of_nearest(node))
            else:
                self._parts(step["A_Indices"], scope)
                self._budget.spend(value.size / 16)
                if not step["A_Indices"].get("is_slice"):
                    value = Value(value.size, value.elements, own=value.elements, tells=value.tells)
        return value

    def _value_SubLink(self, node: Json, scope: Scope) -> Value:
        test = self.value(node.get("testexpr"), scope)
        columns = self._select(node["subselect"]["SelectStmt"], scope)
        kind = node["subLinkType"]
        if kind == "ARRAY_SUBLINK":
            tells = told_by(value for _, value in columns)
            return Value(GATHERED, None, columns[0][1].own if columns else None, is_list=True, tells=tells)
        if kind == "EXPR_SUBLINK" and columns:
            return columns[0][1].handed_on()
        self._budget.spend((test.size + sum(value.size for _, value in columns)) / 16)
        # EXISTS tells that there is a row; IN and ANY compare values.
        compared = () if kind == "EXISTS_SUBLINK" else (test, *(value for _, value in columns))
        return Value(SCALAR, tells=told_by(compared))

    def _value_SelectStmt(self, node: Json, scope: Scope) -> Value:
        values = [value for _, value in self._select(node, scope)]
        return Value(costs.cap(sum(value.size for value in values)), tells=told_by(values))

    def _value_TypeCast(self, node: Json, scope: Scope) -> Value:
        value = self.value(node["arg"], scope)
        type_ = node["typeName"]
        name = (strings(type_.get("names")) or [""])[-1]
        self._budget.spend(costs.work_of_cast(name, value.size))
        is_array = "arrayBounds" in type_
        return Value(costs.of_type(name, is_array, value.size), is_list=is_array, tells=value.tells)

    def _value_RowExpr(self, node: Json, scope: Scope) -> Value:
        values = self.row(node.get("args", ()), scope)
        fields = tuple((f"f{number}", value) for number, value in enumerate(values, start=1))
        return Value(costs.cap(sum(value.size for value in values) + SCALAR), fields, tells=told_by(values))

    def _value_A_Expr(self, node: Json, scope: Scope) -> Value:
        left, right = self.value(node.get("lexpr"), scope), self._operand(node.get("rexpr"), scope)
        name = (strings(node.get("name")) or [""])[-1]
        kind = node.get("kind", "AEXPR_OP")
        tells = left.tells | right.tells
        if kind == "AEXPR_NULLIF":
            self._budget.spend((left.size + right.size) / 16)
            return replace(left.handed_on(), tells=tells)
        self._budget.spend(costs.work_of_operator(name, left.size, right.size))
        if kind != "AEXPR_OP":
            return Value(SCALAR, tells=tells)
        size = costs.of_operator(name, left.size, right.size)
        return Value(size, is_list=left.is_list and right.is_list, tells=tells)

    def _operand(self, node: Any, scope: Scope) -> Value:
        if node and "List" in node:
            node = node["List"].get("items", ())
        if not isinstance(node, list | tuple):
            return self.value(node, scope)
        parts = [self.value(part, scope) for part in node]
        return Value(costs.cap(sum(part.size for part in parts)), tells=told_by(parts))

    def _value_BoolExpr(self, node: Json, scope: Scope) -> Value:
        return Value(SCALAR, tells=told_by([self.value(part, scope) for part in node.get("args", ())]))

    def _value_NullTest(self, node: Json, scope: Scope) -> Value:
        """Whether there is a value tells no value."""
        self.value(node["arg"], scope)
        return SMALL

    def _value_BooleanTest(self, node: Json, scope: Scope) -> Value:
        return Value(SCALAR, tells=self.value(node["arg"], scope).tells)

    def _value_CaseExpr(self, node: Json, scope: Scope) -> Value:
        conditions = [self.value(node.get("arg"), scope)]
        branches = []
        for branch in node.get("args", ()):
            conditions.append(self.value(branch["CaseWhen"]["expr"], scope))
            branches.append(self.value(branch["CaseWhen"]["result"], scope))
        default = [self.value(node["defresult"], scope)] if "defresult" in node else []
        value = same_row([*branches, *default]).handed_on()
        return replace(value, tells=value.tells | told_by(conditions))

    def _value_CoalesceExpr(self, node: Json, scope: Scope) -> Value:
        return same_row([self.value(part, scope) for part in node.get("args", ())]).handed_on()

    _value_MinMaxExpr = _value_CoalesceExpr

    def _value_NamedArgExpr(self, node: Json, scope: Scope) -> Value:
        return self.value(node["arg"], scope)

    def _value_A_ArrayExpr(self, node: Json, scope: Scope) -> Value:
        return replace(self._parts(node, scope), is_list=True)

    def _value_JsonArrayAgg(self, node: Json, scope: Scope) -> Value:
        return Value(GATHERED, tells=self._parts(node, scope).tells)

    _value_JsonObjectAgg = _value_JsonArrayAgg

    _value_JsonArrayQueryConstructor = _value_JsonArrayAgg

    def json_function(self, node: Json, scope: Scope) -> Value:
        """JSON_VALUE, JSON_QUERY, JSON_EXISTS and JSON_TABLE: a path over a document."""
        value = self._parts(node, scope)
        self._budget.spend(costs.work_of_call("jsonb_path_query", [value.size]))
        return value

    _value_JsonFuncExpr = json_function
    _value_JsonTable = json_function

    def _value_FuncCall(self, node: Json, scope: Scope) -> Value:
        name = strings(node["funcname"])[-1]
        nodes = node.get("args", ())
        values = [self.value(part, scope) for part in nodes]
        sorted_by = [self.value(part, scope) for part in node.get("agg_order", ())]
        self.value(node.get("agg_filter"), scope)
        if "over" in node:
            self._parts(node["over"], scope)
        sizes = [value.size for value in values] or [value.size for value in sorted_by]
        numbers, texts = [literal_number(part) for part in nodes], [literal_text(part) for part in nodes]
        self._budget.spend(costs.work_of_call(name, _path_sizes(name, sizes, texts)))
        size = costs.of_call(name, sizes, numbers, texts) if name != "array_fill" else _filled(values, nodes)
        tells = frozenset[str]() if name == "count" else told_by([*values, *sorted_by])
        if len(out := OUT_COLUMNS.get(name, ())) > 1:
            return Value(size, tuple((column, Value(size, tells=tells)) for column in out), tells=tells)
        if name == "array_agg" and values:
            return Value(size, None, values[0].own, is_list=True, tells=tells)
        if name in _ROW_FUNCTIONS and values:
            return replace(values[0].handed_on(), size=size, tells=tells)
        return Value(size, is_list=name in _LIST_FUNCTIONS, tells=tells)


def _path_sizes(name: str, sizes: list[int], texts: list[str | None]) -> list[int]:
    """The sizes that count for a JSON path. A path without a filter reads its document only once."""
    if (
        name.startswith("jsonb_path_")
        and len(texts) > 1
        and texts[1] is not None
        and "?" not in texts[1]
        and "=" not in texts[1]
    ):
        return [min(size, CELL) for size in sizes]
    return sizes


def _filled(values: list[Value], nodes: Sequence[Json]) -> int:
    """The size of `array_fill(value, array[3, 4])`. The counts are known only if they are literals."""
    counts = nodes[1].get("A_ArrayExpr", {}).get("elements", ()) if len(nodes) > 1 else ()
    product = 1
    for count in counts:
        product *= literal_number(count) or costs.LARGEST
    return costs.cap(max(values[0].size, 8) * product) if counts else costs.LARGEST
