"""What does each name of a statement mean, and how much work is one row of it?

PostgreSQL reads `x.f` and `(x).f` as the function `f(x)` or the cast `x::f` when x has no column f, and the parse tree
does not show the difference. So every dotted name is resolved here as PostgreSQL resolves it: from the tables in FROM,
whose columns are known, and from the names that the statement itself gives (aliases, column lists, WITH queries, fields
`f1..fN` of rows). Other names are refused. The same pass adds up the size and work of each expression (`costs`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mcp_bridge.sql.validation.budget import Budget
from mcp_bridge.sql.validation.costs import GATHERED, SCALAR
from mcp_bridge.sql.validation.expressions import Expressions
from mcp_bridge.sql.validation.from_clause import MAX_COLUMNS as MAX_IN_FROM
from mcp_bridge.sql.validation.from_clause import FromClause
from mcp_bridge.sql.validation.names import Columns, FromItem, Level, Scope, Value, larger, renamed, same_row, told_by
from mcp_bridge.sql.validation.rules import Rules
from mcp_bridge.sql.validation.tree import Json, Positions, by_need, implied_name, relations_read, strings

_MAX_COLUMNS = 1664  # PostgreSQL's own limit of the columns of one SELECT


class Queries:
    """One pass over the tree of a statement whose nodes have all been allowed."""

    def __init__(self, rules: Rules, positions: Positions) -> None:
        self._rules = rules
        self._positions = positions
        self._budget = Budget(rules)
        self._expressions = Expressions(rules, positions, self._budget, self._select)
        self._from = FromClause(rules, self._budget, self._expressions, self._select)

    def check(self, select: Json) -> Columns:
        """Check the statement; returns its columns. Raises `QueryRejected`."""
        try:
            return self._select(select, Scope())
        except RecursionError:
            self._rules.too_complex()

    def _select(self, node: Json, scope: Scope) -> Columns:
        if "withClause" in node:
            scope = Scope(scope.levels, self._with(node["withClause"], scope))
        if "larg" in node:
            columns, inner = self._set_operation(node, scope)
        elif "valuesLists" in node:
            columns, inner = self._values(node, scope)
        else:
            columns, inner = self._plain_select(node, scope)
        self._expressions.value(node.get("limitCount"), inner)
        self._expressions.value(node.get("limitOffset"), inner)
        return columns

    def _set_operation(self, node: Json, scope: Scope) -> tuple[Columns, Scope]:
        """UNION, INTERSECT, EXCEPT: the names of the left side, the sizes of the larger side."""
        left, right = self._select(node["larg"], scope), self._select(node["rarg"], scope)
        columns = tuple(
            (name, value if index >= len(right) else larger(value, right[index][1]))
            for index, (name, value) in enumerate(left)
        )
        self._expressions.all(node.get("sortClause"), scope.within(Level([FromItem("", columns)])))
        return columns, scope

    def _values(self, node: Json, scope: Scope) -> tuple[Columns, Scope]:
        rows = [self._expressions.row(row["List"].get("items", ()), scope) for row in node["valuesLists"]]
        columns = tuple(
            (f"column{index + 1}", same_row([row[index] for row in rows if index < len(row)]))
            for index in range(len(rows[0]))
        )
        inner = scope.within(Level([FromItem("*VALUES*", columns)]))
        self._expressions.all(node.get("sortClause"), inner)
        return columns, inner

    def _plain_select(self, node: Json, scope: Scope) -> tuple[Columns, Scope]:
        level = Level()
        inner = scope.within(level)
        for item in node.get("fromClause", ()):
            level.star += self._budget.columns(self._from.add(item, level, inner), MAX_IN_FROM - len(level.star))
        columns = tuple(self._budget.columns(list(self._targets(node.get("targetList", ()), inner)), _MAX_COLUMNS))
        for clause in ("whereClause", "havingClause"):
            self._expressions.value(node.get(clause), inner)
        # Output names are allowed here too, but only undotted, and an undotted name cannot be a call.
        for clause in ("groupClause", "distinctClause", "windowClause", "sortClause"):
            self._expressions.all(node.get(clause), inner)
        return columns, inner

    def _with(self, clause: Json, scope: Scope) -> dict[str, Columns]:
        ctes = dict(scope.ctes)
        queries = [item["CommonTableExpr"] for item in clause.get("ctes", ())]
        if clause.get("recursive"):
            ordered = by_need(queries)
            if ordered is None:
                self._rules.unsupported("WITH queries that read each other", self._positions.of(queries[0]))
            for query in ordered:
                ctes[query["ctename"]] = self._recursive(query, Scope(scope.levels, ctes))
        else:
            for query in queries:
                columns = self._select(query["ctequery"]["SelectStmt"], Scope(scope.levels, ctes))
                ctes[query["ctename"]] = renamed(columns, strings(query.get("aliascolnames")))
        return ctes

    def _recursive(self, query: Json, scope: Scope) -> Columns:
        """A query that reads itself. Values that are larger after the second round may grow without end."""
        select, name, names = query["ctequery"]["SelectStmt"], query["ctename"], strings(query.get("aliascolnames"))
        if "larg" not in select or name not in relations_read(select["rarg"]):
            columns = self._select(select, scope)
            return renamed(columns, names) + _search_and_cycle_columns(query, columns)
        first = tuple(
            (column, replace(value, size=max(value.size, 4 * SCALAR)))
            for column, value in renamed(self._select(select["larg"], scope), names)
        )
        extra = _search_and_cycle_columns(query, first)
        again = self._select(select["rarg"], Scope(scope.levels, {**scope.ctes, name: first + extra}))
        # What one column tells in a round, any of them may tell in a later one.
        tells = told_by(value for _, value in (*first, *again))
        grown = tuple(
            (
                column,
                replace(value, tells=tells)
                if index < len(again) and again[index][1].size <= value.size
                else replace(value, size=GATHERED, tells=tells),
            )
            for index, (column, value) in enumerate(first)
        )
        extra = _search_and_cycle_columns(query, grown)
        self._select(select["rarg"], Scope(scope.levels, {**scope.ctes, name: grown + extra}))
        return grown + extra

    def _targets(self, targets: Sequence[Json], scope: Scope) -> Iterable[tuple[str, Value]]:
        for item in targets:
            target = item["ResTarget"]
            star = self._expressions.star(target["val"], scope)
            if star is not None:
                yield from star
            else:
                yield (
                    target.get("name") or implied_name(target["val"]),
                    self._expressions.value(target["val"], scope).as_column(),
                )


def _search_and_cycle_columns(query: Json, columns: Columns) -> Columns:
    """The columns that SEARCH and CYCLE add, made of any of the others."""
    search, cycle = query.get("search_clause", {}), query.get("cycle_clause", {})
    names = (search.get("search_seq_column"), cycle.get("cycle_mark_column"), cycle.get("cycle_path_column"))
    tells = told_by(value for _, value in columns)
    return tuple((name, Value(GATHERED, tells=tells)) for name in names if name)
