"""What does each name of a statement stand for, and how much work is one row of it?

PostgreSQL reads `x.f` and `(x).f` as the function `f(x)` or the cast `x::f` when x has no column f, and no parse tree
tells one from the other. So every dotted name is resolved here as PostgreSQL resolves it: from the tables in FROM, whose
columns are known, and from the names that the statement gives itself (aliases, column lists, WITH queries, fields `f1..fN`
of rows). What is none of these is refused. On the same way through the tree each expression's size and work are added up
(`costs`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mcp_bridge.sql.validation import costs
from mcp_bridge.sql.validation.costs import CELL, GATHERED, SCALAR
from mcp_bridge.sql.validation.rules import Rules

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """An expression's result: bytes it may have, the fields behind its dot where it is a row, those of its elements where it is
    an array of rows.

    `own`: the fields that its type has, which is so for rows of relations only. A row of anything else is known by where it comes
    from, and a row of a relation by the names that FROM gives its columns: both are forgotten as soon as an expression hands the
    row on (source: ParseComplexProjection in PostgreSQL's parse_func.c, expandRecordVariable in parse_target.c).
    `is_list`: surely an array, of which `unnest` gives values; of a tsvector it gives rows.
    """

    size: int = CELL
    fields: "Columns | None" = None
    elements: "Columns | None" = None
    own: "Columns | None" = None
    is_list: bool = False

    def handed_on(self) -> "Value":
        """By CASE, coalesce, a function, a scalar subquery, or as a field of another row."""
        return replace(self, fields=self.own)

    def as_column(self) -> "Value":
        """As a column of a query, through which PostgreSQL looks for the names of rows whose type has none."""
        return self if self.own is None else self.handed_on()


Columns = tuple[tuple[str, Value], ...]
_SMALL = Value(SCALAR)
_MAX_STEPS = 60_000
_MAX_COLUMNS = 1664  # PostgreSQL's own limit for what one SELECT gives
_MAX_IN_FROM = 10_000


class _Item:
    """One name in FROM. `schema`: of a relation that is known by its own name; `own`: the columns that its rows' type has;
    `is_scalar`: a function that gives plain values, so that its name stands for a value and not for a row."""

    def __init__(
        self,
        name: str,
        columns: Columns,
        schema: str | None = None,
        *,
        own: Columns | None = None,
        is_scalar: bool = False,
    ) -> None:
        self.name = name
        self.columns = columns
        self.schema = schema
        self._own = own
        self._is_scalar = is_scalar
        self._by_name = _by_name(columns)

    def column(self, name: str) -> Value | None:
        return self._by_name.get(name)

    def row(self) -> Value:
        size = costs.cap(sum(value.size for _, value in self.columns))
        return Value(size) if self._is_scalar else Value(size, self.columns, own=self._own)


def _by_name(columns: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """By name; several columns of one name are taken together."""
    found: dict[str, Value] = {}
    for name, value in columns:
        found[name] = _larger(found[name], value) if name in found else value
    return found


@dataclass(slots=True)
class _Level:
    """What one SELECT brings into sight; `star`: the columns of its `*`, in order."""

    items: list[_Item] = field(default_factory=list)
    star: list[tuple[str, Value]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Sight:
    """Levels from the innermost outwards, and the WITH queries that can be read."""

    levels: tuple[_Level, ...] = ()
    ctes: Mapping[str, Columns] = field(default_factory=dict)


class _Given(NamedTuple):
    """What a function in FROM gives. `rows`: the columns, None where it gives plain values; `is_typed`: of a relation's rows;
    `out_name`: what the function itself calls its values, empty where that is not known."""

    function: str
    value: Value
    rows: Columns | None
    is_typed: bool = False
    out_name: str | None = None


# Functions that name the columns they give in FROM; others' column is called as their alias or as they are.
_OUT_COLUMNS = {
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
_IMPLIED = {
    "A_ArrayExpr": "array", "RowExpr": "row", "CoalesceExpr": "coalesce", "GroupingFunc": "grouping",
    "JsonObjectConstructor": "json_object", "JsonArrayConstructor": "json_array", "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg", "JsonArrayAgg": "json_arrayagg", "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar", "JsonSerializeExpr": "json_serialize",
}  # fmt: skip


class Scopes:
    """One pass over the tree of a statement whose nodes were all allowed before."""

    def __init__(self, sql: str, rules: Rules) -> None:
        self._utf8 = sql.encode()
        self._rules = rules
        self._work = 0.0
        self._steps = 0

    def check(self, select: _Json) -> None:
        """Raises `QueryRejected`."""
        try:
            self._select(select, _Sight())
        except RecursionError:
            self._rules.too_complex()

    # Queries

    def _select(self, node: _Json, sight: _Sight) -> Columns:
        sight = _Sight(sight.levels, self._with(node["withClause"], sight)) if "withClause" in node else sight
        if "larg" in node:
            left, right = self._select(node["larg"], sight), self._select(node["rarg"], sight)
            columns = tuple(
                (name, value if index >= len(right) else _larger(value, right[index][1]))
                for index, (name, value) in enumerate(left)
            )
            self._all(node.get("sortClause"), _Sight((_Level([_Item("", columns)]), *sight.levels), sight.ctes))
            inner = sight
        elif "valuesLists" in node:
            rows = [self._row(row["List"].get("items", ()), sight) for row in node["valuesLists"]]
            columns = tuple(
                (f"column{index + 1}", _same_row([row[index] for row in rows if index < len(row)]))
                for index in range(len(rows[0]))
            )
            inner = _Sight((_Level([_Item("*VALUES*", columns)]), *sight.levels), sight.ctes)
            self._all(node.get("sortClause"), inner)
        else:
            level = _Level()
            inner = _Sight((level, *sight.levels), sight.ctes)
            for item in node.get("fromClause", ()):
                level.star += self._bounded(self._from(item, level, inner), _MAX_IN_FROM - len(level.star))
            columns = tuple(self._bounded(list(self._targets(node.get("targetList", ()), inner)), _MAX_COLUMNS))
            for clause in ("whereClause", "havingClause"):
                self._value(node.get(clause), inner)
            # Output names can stand here too, but only alone, and what stands alone is no call.
            for clause in ("groupClause", "distinctClause", "windowClause", "sortClause"):
                self._all(node.get(clause), inner)
        self._value(node.get("limitCount"), inner)
        self._value(node.get("limitOffset"), inner)
        return columns

    def _bounded(self, columns: list[tuple[str, Value]], most: int) -> list[tuple[str, Value]]:
        """The columns, unless there are more than PostgreSQL or this check would take: stars over stars double them."""
        self._steps += len(columns) // 4
        if len(columns) > most or self._steps > _MAX_STEPS:
            self._rules.too_complex()
        return columns

    def _with(self, clause: _Json, sight: _Sight) -> dict[str, Columns]:
        ctes = dict(sight.ctes)
        queries = [item["CommonTableExpr"] for item in clause.get("ctes", ())]
        if clause.get("recursive"):
            ordered = _by_need(queries)
            if ordered is None:
                self._rules.unsupported("WITH queries that read each other", self._at(queries[0]))
            for query in ordered:
                ctes[query["ctename"]] = self._recursive(query, _Sight(sight.levels, ctes))
        else:
            for query in queries:
                columns = self._select(query["ctequery"]["SelectStmt"], _Sight(sight.levels, ctes))
                ctes[query["ctename"]] = _renamed(columns, _strings(query.get("aliascolnames")))
        return ctes

    def _recursive(self, query: _Json, sight: _Sight) -> Columns:
        select, name, names = query["ctequery"]["SelectStmt"], query["ctename"], _strings(query.get("aliascolnames"))
        extra = tuple(
            (column, Value(GATHERED))
            for column in (
                query.get("search_clause", {}).get("search_seq_column"),
                query.get("cycle_clause", {}).get("cycle_mark_column"),
                query.get("cycle_clause", {}).get("cycle_path_column"),
            )
            if column
        )
        if "larg" not in select or name not in _relations_read(select["rarg"]):
            return _renamed(self._select(select, sight), names) + extra
        first = tuple(
            (column, replace(value, size=max(value.size, 4 * SCALAR)))
            for column, value in _renamed(self._select(select["larg"], sight), names)
        )
        again = self._select(select["rarg"], _Sight(sight.levels, {**sight.ctes, name: first + extra}))
        grown = tuple(
            (
                column,
                value if index < len(again) and again[index][1].size <= value.size else replace(value, size=GATHERED),
            )
            for index, (column, value) in enumerate(first)
        )
        self._select(select["rarg"], _Sight(sight.levels, {**sight.ctes, name: grown + extra}))
        return grown + extra

    def _targets(self, targets: Sequence[_Json], sight: _Sight) -> Iterable[tuple[str, Value]]:
        for item in targets:
            target = item["ResTarget"]
            star = self._star(target["val"], sight)
            if star is not None:
                yield from star
            else:
                yield target.get("name") or _implied_name(target["val"]), self._value(target["val"], sight).as_column()

    def _row(self, parts: Sequence[_Json], sight: _Sight) -> list[Value]:
        """The parts of ROW(...) or of a line of VALUES, where PostgreSQL puts a star's columns in its place."""
        values: list[Value] = []
        for part in parts:
            star = self._star(part, sight)
            values += [self._value(part, sight).as_column()] if star is None else [value for _, value in star]
        return values

    def _star(self, node: _Json, sight: _Sight) -> Columns | None:
        """The columns of `*`, `x.*` and `(row).*`; None for other expressions."""
        if not _ends_with_star(node):
            return None
        if "ColumnRef" in node:
            names = _strings(node["ColumnRef"]["fields"])
            if not names:
                return tuple(sight.levels[0].star)
            return self._item(names, sight, self._at(node["ColumnRef"])).columns
        return self._value(node, sight).fields or ()

    # FROM

    def _from(self, node: _Json, level: _Level, sight: _Sight) -> list[tuple[str, Value]]:
        ((kind, item),) = node.items()
        alias = item.get("alias", {})
        names = _strings(alias.get("colnames"))
        if kind == "JoinExpr":
            return self._join(item, level, sight)
        if kind == "RangeTableSample":
            columns = self._from(item["relation"], level, sight)
            self._all(item.get("args"), _Sight((), sight.ctes))
            self._value(item.get("repeatable"), _Sight((), sight.ctes))
            return columns
        if kind == "RangeVar":
            schema, name = item.get("schemaname"), item["relname"]
            known, own = sight.ctes.get(name) if schema is None else None, None
            if known is None:
                # Tables have no columns for text search.
                known = own = tuple((column, Value(is_list=True)) for column in self._rules.columns_of(schema, name))
            made = _Item(alias.get("aliasname", name), _renamed(known, names), None if alias else schema or "", own=own)
        elif kind == "RangeSubselect":
            # Without LATERAL a query in FROM does not see its neighbours, and the same name may stand for something further out.
            seen = sight if item.get("lateral") else _Sight(sight.levels[1:], sight.ctes)
            inner = self._select(item["subquery"]["SelectStmt"], seen)
            made = _Item(alias.get("aliasname", ""), _renamed(inner, names))
        elif kind == "RangeFunction":
            made = self._function_item(item, alias, names, sight)
        else:  # JsonTable
            part = Value(self._value_JsonTable(item, sight).size)
            made = _Item(
                alias.get("aliasname", "json_table"),
                _renamed(tuple((name, part) for name in _json_columns(item)), names),
            )
        level.items.append(made)
        return list(made.columns)

    def _function_item(self, item: _Json, alias: _Json, names: list[str], sight: _Sight) -> _Item:
        calls = [entry["List"]["items"] for entry in item["functions"]]
        given = [made for call in calls for made in self._given(call, item.get("coldeflist", ()), sight)]
        alone, columns = len(given) == 1, list[tuple[str, Value]]()
        for made in given:
            name = made.out_name
            if name is None:
                name = alias.get("aliasname", made.function) if alone else made.function
            columns += ((name, made.value),) if made.rows is None else made.rows
        if item.get("ordinality"):
            columns.append(("ordinality", _SMALL))
        plain = alone and not item.get("ordinality")
        return _Item(
            alias.get("aliasname", _implied_name(calls[0][0])),
            _renamed(tuple(columns), names),
            own=given[0].rows if plain and given[0].is_typed else None,
            is_scalar=plain and given[0].rows is None,
        )

    def _given(self, call: Sequence[_Json], coldeflist: Sequence[_Json], sight: _Sight) -> "list[_Given]":
        """What one function in FROM gives; `unnest` of several arrays is as many functions."""
        value, function = self._value(call[0], sight), _implied_name(call[0])
        definitions = _definitions(call[1:]) or _definitions([{"List": {"items": coldeflist}}])
        element = _SMALL if function in ("generate_series", "generate_subscripts") else Value(value.size)
        out = _OUT_COLUMNS.get(function, ())
        if definitions or len(out) > 1:
            return [_Given(function, element, tuple((name, element) for name in definitions or out))]
        if function == "unnest":
            arrays = [self._value(argument, sight) for argument in call[0]["FuncCall"].get("args", ())]
            return [
                _Given(
                    function, Value(array.size), array.elements, is_typed=True, out_name=None if array.is_list else ""
                )
                for array in arrays
            ]
        return [_Given(function, element, value.own, is_typed=True, out_name=next(iter(out), None))]

    def _join(self, node: _Json, level: _Level, sight: _Sight) -> list[tuple[str, Value]]:
        before = len(level.items)
        left = self._from(node["larg"], level, sight)
        right = self._from(node["rarg"], level, sight)
        merged = _strings(node.get("usingClause"))
        if node.get("isNatural"):
            there = {name for name, _ in right}
            merged = list(dict.fromkeys(name for name, _ in left if name in there))
        # ON sees the two sides of its join, and not what else is in FROM.
        sides = _Level(level.items[before:])
        self._value(node.get("quals"), _Sight((sides, *sight.levels[1:]), sight.ctes))
        both = self._bounded(left + right, _MAX_IN_FROM)
        by_name, once = _by_name(both), set(merged)
        shared = [(name, by_name.get(name, Value())) for name in merged]
        columns = shared + [(name, value) for name, value in both if name not in once]
        alias = node.get("alias")
        if alias:
            made = _Item(alias["aliasname"], _renamed(tuple(columns), _strings(alias.get("colnames"))))
            del level.items[before:]
            level.items.append(made)
            return list(made.columns)
        if "join_using_alias" in node:
            level.items.append(_Item(node["join_using_alias"]["aliasname"], tuple(shared)))
        return columns

    # Names

    def _item(self, names: list[str], sight: _Sight, at: int | None) -> _Item:
        """The thing in FROM that `x` or `schema.x` names: of the innermost query that has one of that name."""
        for level in sight.levels:
            found = [
                item for item in level.items if item.name == names[-1] and (len(names) == 1 or item.schema is not None)
            ]
            if found:
                shared = [column for column in found[0].columns if all(item.column(column[0]) for item in found)]
                return found[0] if len(found) == 1 else _Item(found[0].name, tuple(shared))
        in_sight = sorted({item.name for level in sight.levels for item in level.items if item.name})
        self._rules.unknown_alias(".".join(names), in_sight, at)

    def _column(self, node: _Json, sight: _Sight) -> Value:
        names, at = _strings(node["fields"]), self._at(node)
        if "A_Star" in node["fields"][-1]:
            return self._item(names, sight, at).row() if names else Value()
        if len(names) == 1:
            return self._bare(names[0], sight)
        item = self._item(names[:-1], sight, at)
        found = item.column(names[-1])
        if found is None:
            self._rules.unknown_attribute(names[-1], [name for name, _ in item.columns], at)
        self._rules.behind_a_dot(names[-1], at)
        return found

    def _bare(self, name: str, sight: _Sight) -> Value:
        for level in sight.levels:
            found = [value for item in level.items if (value := item.column(name)) is not None]
            if found:
                return _same_row(found)
        for level in sight.levels:
            rows = [item.row() for item in level.items if item.name == name]
            if rows:
                return rows[0]
        return Value()  # PostgreSQL says that there is none

    # Expressions

    def _all(self, nodes: Any, sight: _Sight) -> None:
        for node in nodes or ():
            self._value(node, sight)

    def _value(self, node: _Json | None, sight: _Sight) -> Value:
        if not node:
            return _SMALL
        # Recursive queries are gone through more than once, and so are those within them.
        self._steps += 1
        if self._steps > _MAX_STEPS:
            self._rules.too_complex()
        if len(node) == 1:
            ((kind, inner),) = node.items()
            method = getattr(self, f"_value_{kind}", None)
            if method is not None:
                value: Value = method(inner, sight)
                return value
            if kind[:1].isupper() and isinstance(inner, dict):
                return self._parts(inner, sight)
        return self._parts(node, sight)

    def _parts(self, node: _Json, sight: _Sight) -> Value:
        """An expression of no kind of its own: as large as its parts together."""
        size, fields = 0, []
        for name, part in node.items():
            for piece in part if isinstance(part, list) else (part,):
                if isinstance(piece, dict) and piece and name not in ("typeName", "funcname", "name"):
                    value = self._value(piece, sight)
                    size += value.size
                    fields.append(value.fields)
        return Value(costs.cap(max(size, SCALAR)))

    def _value_A_Const(self, node: _Json, _sight: _Sight) -> Value:
        text = _literal(node)
        return Value(max(len(text.encode("utf-8", "replace")), 1) if text is not None else 16)

    def _value_ColumnRef(self, node: _Json, sight: _Sight) -> Value:
        return self._column(node, sight)

    def _value_A_Indirection(self, node: _Json, sight: _Sight) -> Value:
        value = self._value(node["arg"], sight)
        for step in node["indirection"]:
            if "String" in step:
                name = step["String"].get("sval", "")
                fields = value.fields or ()
                found = [part for field_name, part in fields if field_name == name]
                if not found:
                    self._rules.unknown_attribute(
                        name, [field_name for field_name, _ in fields], self._at_nearest(node)
                    )
                self._rules.behind_a_dot(name, self._at_nearest(node))
                value = _same_row(found).handed_on()
            elif "A_Star" in step:
                if value.fields is None:
                    self._rules.unsupported("A star behind what is no row", self._at_nearest(node))
            else:
                self._parts(step["A_Indices"], sight)
                self._add(value.size / 16)
                if not step["A_Indices"].get("is_slice"):
                    value = Value(value.size, value.elements, own=value.elements)
        return value

    def _value_SubLink(self, node: _Json, sight: _Sight) -> Value:
        test = self._value(node.get("testexpr"), sight)
        columns = self._select(node["subselect"]["SelectStmt"], sight)
        kind = node["subLinkType"]
        if kind == "ARRAY_SUBLINK":
            return Value(GATHERED, None, columns[0][1].own if columns else None, is_list=True)
        if kind == "EXPR_SUBLINK" and columns:
            return columns[0][1].handed_on()
        self._add((test.size + sum(value.size for _, value in columns)) / 16)
        return _SMALL

    def _value_SelectStmt(self, node: _Json, sight: _Sight) -> Value:
        return Value(costs.cap(sum(value.size for _, value in self._select(node, sight))))

    def _value_TypeCast(self, node: _Json, sight: _Sight) -> Value:
        value = self._value(node["arg"], sight)
        type_ = node["typeName"]
        name = (_strings(type_.get("names")) or [""])[-1]
        self._add(costs.work_of_cast(name, value.size))
        is_array = "arrayBounds" in type_
        return Value(costs.of_type(name, is_array, value.size), is_list=is_array)

    def _value_RowExpr(self, node: _Json, sight: _Sight) -> Value:
        values = self._row(node.get("args", ()), sight)
        fields = tuple((f"f{number}", value) for number, value in enumerate(values, start=1))
        return Value(costs.cap(sum(value.size for value in values) + SCALAR), fields)

    def _value_A_Expr(self, node: _Json, sight: _Sight) -> Value:
        left, right = self._value(node.get("lexpr"), sight), self._operand(node.get("rexpr"), sight)
        name = (_strings(node.get("name")) or [""])[-1]
        kind = node.get("kind", "AEXPR_OP")
        if kind == "AEXPR_NULLIF":
            self._add((left.size + right.size) / 16)
            return left.handed_on()
        self._add(costs.work_of_operator(name, left.size, right.size))
        if kind != "AEXPR_OP":
            return _SMALL
        return Value(costs.of_operator(name, left.size, right.size), is_list=left.is_list and right.is_list)

    def _operand(self, node: Any, sight: _Sight) -> Value:
        if isinstance(node, list):
            return Value(costs.cap(sum(self._value(part, sight).size for part in node)))
        if node and "List" in node:
            return Value(costs.cap(sum(self._value(part, sight).size for part in node["List"].get("items", ()))))
        return self._value(node, sight)

    def _value_BoolExpr(self, node: _Json, sight: _Sight) -> Value:
        self._all(node.get("args"), sight)
        return _SMALL

    def _value_NullTest(self, node: _Json, sight: _Sight) -> Value:
        self._value(node["arg"], sight)
        return _SMALL

    _value_BooleanTest = _value_NullTest

    def _value_CaseExpr(self, node: _Json, sight: _Sight) -> Value:
        self._value(node.get("arg"), sight)
        branches = []
        for branch in node.get("args", ()):
            self._value(branch["CaseWhen"]["expr"], sight)
            branches.append(self._value(branch["CaseWhen"]["result"], sight))
        default = [self._value(node["defresult"], sight)] if "defresult" in node else []
        return _same_row([*branches, *default]).handed_on()

    def _value_CoalesceExpr(self, node: _Json, sight: _Sight) -> Value:
        return _same_row([self._value(part, sight) for part in node.get("args", ())]).handed_on()

    _value_MinMaxExpr = _value_CoalesceExpr

    def _value_NamedArgExpr(self, node: _Json, sight: _Sight) -> Value:
        return self._value(node["arg"], sight)

    def _value_A_ArrayExpr(self, node: _Json, sight: _Sight) -> Value:
        return replace(self._parts(node, sight), is_list=True)

    def _value_JsonArrayAgg(self, node: _Json, sight: _Sight) -> Value:
        self._parts(node, sight)
        return Value(GATHERED)

    _value_JsonObjectAgg = _value_JsonArrayAgg
    _value_JsonArrayQueryConstructor = _value_JsonArrayAgg

    def _value_JsonFuncExpr(self, node: _Json, sight: _Sight) -> Value:
        value = self._parts(node, sight)
        self._add(costs.work_of_call("jsonb_path_query", [value.size]))
        return value

    _value_JsonTable = _value_JsonFuncExpr

    def _value_FuncCall(self, node: _Json, sight: _Sight) -> Value:
        name = _strings(node["funcname"])[-1]
        nodes = node.get("args", ())
        values = [self._value(part, sight) for part in nodes]
        sorted_by = [self._value(part, sight) for part in node.get("agg_order", ())]
        self._value(node.get("agg_filter"), sight)
        if "over" in node:
            self._parts(node["over"], sight)
        sizes = [value.size for value in values] or [value.size for value in sorted_by]
        numbers, texts = [_number(part) for part in nodes], [_text(part) for part in nodes]
        self._add(costs.work_of_call(name, _path_sizes(name, sizes, texts)))
        size = costs.of_call(name, sizes, numbers, texts) if name != "array_fill" else _filled(values, nodes)
        if len(out := _OUT_COLUMNS.get(name, ())) > 1:
            return Value(size, tuple((column, Value(size)) for column in out))
        if name == "array_agg" and values:
            return Value(size, None, values[0].own, is_list=True)
        if name in _ROW_FUNCTIONS and values:
            return replace(values[0].handed_on(), size=size)
        return Value(size, is_list=name in _LIST_FUNCTIONS)

    def _add(self, work: float) -> None:
        self._work += work
        if self._work > costs.MAX_WORK:
            self._rules.too_costly()

    def _at(self, node: _Json) -> int | None:
        location = node.get("location", -1)
        return len(self._utf8[:location].decode(errors="replace")) if location >= 0 else None

    def _at_nearest(self, node: _Json) -> int | None:
        inner = next(iter(node["arg"].values()))
        return self._at(inner) if isinstance(inner, dict) else None


def _path_sizes(name: str, sizes: list[int], texts: list[str | None]) -> list[int]:
    """A JSON path without a filter goes through its document once."""
    if (
        name.startswith("jsonb_path_")
        and len(texts) > 1
        and texts[1] is not None
        and "?" not in texts[1]
        and "=" not in texts[1]
    ):
        return [min(size, CELL) for size in sizes]
    return sizes


def _filled(values: list[Value], nodes: Sequence[_Json]) -> int:
    """`array_fill(value, array[3, 4])`: the counts are known only where they are written so."""
    counts = nodes[1].get("A_ArrayExpr", {}).get("elements", ()) if len(nodes) > 1 else ()
    product = 1
    for count in counts:
        product *= _number(count) or costs.LARGEST
    return costs.cap(max(values[0].size, 8) * product) if counts else costs.LARGEST


def _larger(one: Value, other: Value) -> Value:
    return Value(
        max(one.size, other.size),
        one.fields if _same(one.fields, other.fields) else None,
        one.elements if _same(one.elements, other.elements) else None,
        one.own if _same(one.own, other.own) else None,
        one.is_list and other.is_list,
    )


def _same_row(values: list[Value]) -> Value:
    result = values[0] if values else _SMALL
    for value in values[1:]:
        result = _larger(result, value)
    return result


def _same(one: Columns | None, other: Columns | None) -> bool:
    return [name for name, _ in one or ()] == [name for name, _ in other or ()]


def _renamed(columns: Columns, names: list[str]) -> Columns:
    return tuple(
        (names[index] if index < len(names) else name, value) for index, (name, value) in enumerate(columns)
    ) + tuple((name, Value()) for name in names[len(columns) :])


def _by_need(queries: list[_Json]) -> list[_Json] | None:
    """Queries of one WITH RECURSIVE, those that others read first; None where some read each other."""
    read = [_relations_read(query) for query in queries]
    done: list[int] = []
    left = dict.fromkeys(range(len(queries)))
    while left:
        open_names = {queries[index]["ctename"] for index in left}
        ready = [index for index in left if not (read[index] & open_names) - {queries[index]["ctename"]}]
        if not ready:
            return None
        for index in ready:
            del left[index]
            done.append(index)
    return [queries[index] for index in done]


def _relations_read(node: Any) -> set[str]:
    """Names without a schema in any FROM of this part of the tree."""
    found: set[str] = set()
    parts = [node]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            if "relname" in part and "schemaname" not in part:
                found.add(part["relname"])
            parts += part.values()
    return found


def _definitions(entries: Sequence[_Json]) -> list[str]:
    return [
        definition["ColumnDef"]["colname"]
        for entry in entries
        for definition in entry.get("List", {}).get("items", ())
        if "ColumnDef" in definition
    ]


def _json_columns(table: _Json) -> Iterable[str]:
    """In the order that PostgreSQL gives them: those of nested paths behind the others."""
    columns = [column["JsonTableColumn"] for column in table.get("columns", ())]
    yield from (column["name"] for column in columns if "columns" not in column and "name" in column)
    for column in columns:
        if "columns" in column:
            yield from _json_columns(column)


def _implied_name(node: _Json) -> str:
    """The name that PostgreSQL gives an output column without one (source: FigureColname in its parse_target.c)."""
    return _figured(node)[0]


def _figured(node: _Json) -> tuple[str, int]:
    """The name and how good it is: a type's name (1) gives way to any other (2)."""
    ((kind, inner),) = node.items()
    if kind == "ColumnRef":
        return (_strings(inner["fields"]) or ["?column?"])[-1], 2
    if kind == "A_Indirection":
        steps = _strings(inner["indirection"])
        return (steps[-1], 2) if steps else _figured(inner["arg"])
    if kind == "FuncCall":
        return _strings(inner["funcname"])[-1], 2
    if kind == "TypeCast":
        name, worth = _figured(inner["arg"])
        return (name, worth) if worth > 1 else ((_strings(inner["typeName"].get("names")) or [name])[-1], 1)
    if kind == "CollateClause":
        return _figured(inner["arg"])
    if kind == "CaseExpr":
        name, worth = _figured(inner["defresult"]) if "defresult" in inner else ("case", 0)
        return (name, worth) if worth > 1 else ("case", 1)
    if kind == "SubLink":
        return _sublink_name(inner), 2
    if kind == "MinMaxExpr":
        return ("least" if inner.get("op") == "IS_LEAST" else "greatest"), 2
    if kind == "A_Expr" and inner.get("kind") == "AEXPR_NULLIF":
        return "nullif", 2
    if kind == "SQLValueFunction":
        return str(inner.get("op", "")).removeprefix("SVFOP_").removesuffix("_N").lower(), 2
    if kind == "JsonFuncExpr":
        return str(inner.get("op", "JSON_EXISTS_OP")).removesuffix("_OP").lower(), 2
    return (_IMPLIED[kind], 2) if kind in _IMPLIED else ("?column?", 0)


def _sublink_name(node: _Json) -> str:
    kind = node["subLinkType"]
    if kind == "EXPR_SUBLINK":
        select = node["subselect"]["SelectStmt"]
        while "larg" in select:
            select = select["larg"]
        if "valuesLists" in select:
            return "column1"
        target = select.get("targetList", [{}])[0].get("ResTarget")
        if target is None or _ends_with_star(target["val"]):
            return "?column?"  # a star's first column has the name; nobody writes it behind a dot
        return target.get("name") or _implied_name(target["val"])
    return {"EXISTS_SUBLINK": "exists", "ARRAY_SUBLINK": "array"}.get(kind, "?column?")


def _ends_with_star(node: _Json) -> bool:
    ((_kind, inner),) = node.items()
    steps = inner.get("fields") or inner.get("indirection") or [{}]
    return "A_Star" in steps[-1]


def _literal(node: _Json) -> str | None:
    for kind, key in (("sval", "sval"), ("fval", "fval"), ("bsval", "bsval")):
        if kind in node:
            return str(node[kind].get(key, ""))
    return None


def _number(node: _Json) -> int | None:
    """The whole number that an argument is, or None; a negative one makes nothing."""
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "ival" in constant:
        return int(constant["ival"].get("ival", 0))
    text = _literal(constant)
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else None


def _text(node: _Json) -> str | None:
    constant = node.get("A_Const") or node.get("TypeCast", {}).get("arg", {}).get("A_Const")
    return _literal(constant) if constant is not None and "sval" in constant else None


def _strings(items: list[_Json] | None) -> list[str]:
    return [item["String"].get("sval", "") for item in items or () if "String" in item]
