"""Which names does each entry of FROM add to the scope: a table, a query, a function, a join, a JSON table?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mcp_bridge.sql.validation.budget import Budget
from mcp_bridge.sql.validation.expressions import OUT_COLUMNS, Expressions
from mcp_bridge.sql.validation.names import SMALL, Columns, FromItem, Level, Scope, Value, by_name, renamed, told_by
from mcp_bridge.sql.validation.rules import Rules
from mcp_bridge.sql.validation.tree import Json, column_definitions, implied_name, json_table_columns, strings

MAX_COLUMNS = 10_000


class _FunctionColumns(NamedTuple):
    """The result of a function in FROM. `rows`: the columns, None for plain values; `is_typed`: they are a relation's rows;
    `out_name`: the function's own name for its values, empty if unknown."""

    function: str
    value: Value
    rows: Columns | None
    is_typed: bool = False
    out_name: str | None = None


class FromClause:
    """The entries of FROM. `select` finds the columns of a query in FROM."""

    def __init__(
        self, rules: Rules, budget: Budget, expressions: Expressions, select: Callable[[Json, Scope], Columns]
    ) -> None:
        self._rules = rules
        self._budget = budget
        self._expressions = expressions
        self._select = select

    def add(self, node: Json, level: Level, scope: Scope) -> list[tuple[str, Value]]:
        """Add one entry of FROM to `level`; returns the columns that it adds to `*`. Raises `QueryRejected`."""
        ((kind, item),) = node.items()
        if kind == "JoinExpr":
            return self._join(item, level, scope)
        if kind == "RangeTableSample":
            columns = self.add(item["relation"], level, scope)
            self._expressions.all(item.get("args"), Scope((), scope.ctes))
            self._expressions.value(item.get("repeatable"), Scope((), scope.ctes))
            return columns
        alias = item.get("alias", {})
        makers = {"RangeVar": self._relation, "RangeSubselect": self._subquery, "RangeFunction": self._function}
        made = makers.get(kind, self._json_table)(item, alias, strings(alias.get("colnames")), scope)
        level.items.append(made)
        return list(made.columns)

    def _relation(self, item: Json, alias: Json, names: list[str], scope: Scope) -> FromItem:
        schema: str | None = item.get("schemaname")
        name: str = item["relname"]
        known, own = scope.ctes.get(name) if schema is None else None, None
        if known is None:
            # Tables have no columns for text search.
            known = own = tuple(
                (column, Value(is_list=True, tells=self._rules.personal_column(name, column)))
                for column in self._rules.columns_of(schema, name)
            )
        return FromItem(alias.get("aliasname", name), renamed(known, names), None if alias else schema or "", own=own)

    def _subquery(self, item: Json, alias: Json, names: list[str], scope: Scope) -> FromItem:
        # Without LATERAL a query in FROM does not see its neighbours; the same name may mean something in an outer query.
        seen = scope if item.get("lateral") else Scope(scope.levels[1:], scope.ctes)
        return FromItem(alias.get("aliasname", ""), renamed(self._select(item["subquery"]["SelectStmt"], seen), names))

    def _json_table(self, item: Json, alias: Json, names: list[str], scope: Scope) -> FromItem:
        document = self._expressions.json_function(item, scope)
        part = Value(document.size, tells=document.tells)
        columns = tuple((name, part) for name in json_table_columns(item))
        return FromItem(alias.get("aliasname", "json_table"), renamed(columns, names))

    def _function(self, item: Json, alias: Json, names: list[str], scope: Scope) -> FromItem:
        calls = [entry["List"]["items"] for entry in item["functions"]]
        given = [made for call in calls for made in self._function_columns(call, item.get("coldeflist", ()), scope)]
        alone, columns = len(given) == 1, list[tuple[str, Value]]()
        for made in given:
            name = made.out_name
            if name is None:
                name = alias.get("aliasname", made.function) if alone else made.function
            columns += ((name, made.value),) if made.rows is None else made.rows
        if item.get("ordinality"):
            columns.append(("ordinality", SMALL))
        plain = alone and not item.get("ordinality")
        return FromItem(
            alias.get("aliasname", implied_name(calls[0][0])),
            renamed(tuple(columns), names),
            own=given[0].rows if plain and given[0].is_typed else None,
            is_scalar=plain and given[0].rows is None,
        )

    def _function_columns(
        self, call: Sequence[Json], coldeflist: Sequence[Json], scope: Scope
    ) -> list[_FunctionColumns]:
        """The result of one function in FROM. `unnest` of several arrays counts as several functions."""
        value, function = self._expressions.value(call[0], scope), implied_name(call[0])
        definitions = column_definitions(call[1:]) or column_definitions([{"List": {"items": coldeflist}}])
        is_number = function in ("generate_series", "generate_subscripts")
        element = Value(SMALL.size if is_number else value.size, tells=value.tells)
        out = OUT_COLUMNS.get(function, ())
        if definitions or len(out) > 1:
            return [_FunctionColumns(function, element, tuple((name, element) for name in definitions or out))]
        if function == "unnest":
            arrays = [self._expressions.value(argument, scope) for argument in call[0]["FuncCall"].get("args", ())]
            return [
                _FunctionColumns(
                    function,
                    Value(array.size, tells=array.tells),
                    array.elements,
                    is_typed=True,
                    out_name=None if array.is_list else "",
                )
                for array in arrays
            ]
        return [_FunctionColumns(function, element, value.own, is_typed=True, out_name=next(iter(out), None))]

    def _join(self, node: Json, level: Level, scope: Scope) -> list[tuple[str, Value]]:
        before = len(level.items)
        left = self.add(node["larg"], level, scope)
        right = self.add(node["rarg"], level, scope)
        merged = strings(node.get("usingClause"))
        if node.get("isNatural"):
            there = {name for name, _ in right}
            merged = list(dict.fromkeys(name for name, _ in left if name in there))
        # ON sees the two sides of its join, but no other entries of FROM.
        sides = Level(level.items[before:])
        self._expressions.value(node.get("quals"), Scope((sides, *scope.levels[1:]), scope.ctes))
        both = self._budget.columns(left + right, MAX_COLUMNS)
        named, once = by_name(both), set(merged)
        shared = [(name, named.get(name, Value())) for name in merged]
        self._rules.reads_personal(told_by(value for _, value in shared))
        columns = shared + [(name, value) for name, value in both if name not in once]
        alias = node.get("alias")
        if alias:
            made = FromItem(alias["aliasname"], renamed(tuple(columns), strings(alias.get("colnames"))))
            del level.items[before:]
            level.items.append(made)
            return list(made.columns)
        if "join_using_alias" in node:
            level.items.append(FromItem(node["join_using_alias"]["aliasname"], tuple(shared)))
        return columns
