"""Reads libpg_query's JSON: names, literals, and the names that PostgreSQL gives to unnamed columns.

Knows the shapes of the tree, but no tenants and no rules. A node is `{"Kind": {fields}}`; its fields may hold further nodes.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]

_NAME = re.compile(r'"(?:[^"]|"")+"|[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*|\*')
_DOT = re.compile(r"\s*\.\s*")

_IMPLIED_NAMES = {
    "A_ArrayExpr": "array", "RowExpr": "row", "CoalesceExpr": "coalesce", "GroupingFunc": "grouping",
    "JsonObjectConstructor": "json_object", "JsonArrayConstructor": "json_array", "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg", "JsonArrayAgg": "json_arrayagg", "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar", "JsonSerializeExpr": "json_serialize",
}  # fmt: skip


def strings(items: list[Json] | None) -> list[str]:
    return [item["String"].get("sval", "") for item in items or () if "String" in item]


class Positions:
    """Positions of nodes in the statement. The tree counts bytes, callers count characters."""

    def __init__(self, sql: str) -> None:
        self._utf8 = sql.encode()

    def of(self, node: Json) -> int | None:
        """The 0-based character offset of a node that has its own position."""
        location = node.get("location", -1)
        return self.at_byte(location) if location >= 0 else None

    def of_nearest(self, node: Json) -> int | None:
        """For a node without a position: the offset of the expression that it follows."""
        inner = next(iter(node["arg"].values()))
        return self.of(inner) if isinstance(inner, dict) else None

    def at_byte(self, offset: int) -> int:
        """The offset of the character that begins at the byte `offset`."""
        return len(self._utf8[:offset].decode(errors="replace"))


def end_of_name(text: str, at: int, names: Sequence[str]) -> int | None:
    """Where a dotted name ends that stands at `at` (0-based character; -1: nowhere) in plain spelling: without escapes or
    comments within. The last part may be `*`. None of any other spelling."""
    if at < 0:
        return None
    for number, name in enumerate(names):
        if number:
            dot = _DOT.match(text, at)
            if dot is None:
                return None
            at = dot.end()
        written = _NAME.match(text, at)
        if written is None or _read(written[0]) != name:
            return None
        at = written.end()
    return at


def _read(written: str) -> str:
    return written[1:-1].replace('""', '"') if written.startswith('"') else written.lower()


def by_need(queries: list[Json]) -> list[Json] | None:
    """The queries of one WITH RECURSIVE, each after the queries that it reads; None when some read each other."""
    read = [relations_read(query) for query in queries]
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


def relations_read(node: Any) -> set[str]:
    """The names without a schema in any FROM of this part of the tree."""
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


def column_definitions(entries: Sequence[Json]) -> list[str]:
    return [
        definition["ColumnDef"]["colname"]
        for entry in entries
        for definition in entry.get("List", {}).get("items", ())
        if "ColumnDef" in definition
    ]


def json_table_columns(table: Json) -> Iterable[str]:
    """The columns in PostgreSQL's order: columns of nested paths after the others."""
    columns = [column["JsonTableColumn"] for column in table.get("columns", ())]
    yield from (column["name"] for column in columns if "columns" not in column and "name" in column)
    for column in columns:
        if "columns" in column:
            yield from json_table_columns(column)


def implied_name(node: Json) -> str:
    """The name that PostgreSQL gives to an unnamed output column (source: FigureColname in its parse_target.c)."""
    return _implied_name_and_rank(node)[0]


def _implied_name_and_rank(node: Json) -> tuple[str, int]:
    """The name and its rank: any other name (2) is preferred to a type's name (1)."""
    ((kind, inner),) = node.items()
    if kind == "ColumnRef":
        return (strings(inner["fields"]) or ["?column?"])[-1], 2
    if kind == "A_Indirection":
        steps = strings(inner["indirection"])
        return (steps[-1], 2) if steps else _implied_name_and_rank(inner["arg"])
    if kind == "FuncCall":
        return strings(inner["funcname"])[-1], 2
    if kind == "TypeCast":
        name, worth = _implied_name_and_rank(inner["arg"])
        return (name, worth) if worth > 1 else ((strings(inner["typeName"].get("names")) or [name])[-1], 1)
    if kind == "CollateClause":
        return _implied_name_and_rank(inner["arg"])
    if kind == "CaseExpr":
        name, worth = _implied_name_and_rank(inner["defresult"]) if "defresult" in inner else ("case", 0)
        return (name, worth) if worth > 1 else ("case", 1)
    if kind == "SubLink":
        return _subquery_name(inner), 2
    if kind == "MinMaxExpr":
        return ("least" if inner.get("op") == "IS_LEAST" else "greatest"), 2
    if kind == "A_Expr" and inner.get("kind") == "AEXPR_NULLIF":
        return "nullif", 2
    if kind == "SQLValueFunction":
        return str(inner.get("op", "")).removeprefix("SVFOP_").removesuffix("_N").lower(), 2
    if kind == "JsonFuncExpr":
        return str(inner.get("op", "JSON_EXISTS_OP")).removesuffix("_OP").lower(), 2
    return (_IMPLIED_NAMES[kind], 2) if kind in _IMPLIED_NAMES else ("?column?", 0)


def _subquery_name(node: Json) -> str:
    kind = node["subLinkType"]
    if kind == "EXPR_SUBLINK":
        select = node["subselect"]["SelectStmt"]
        while "larg" in select:
            select = select["larg"]
        if "valuesLists" in select:
            return "column1"
        target = select.get("targetList", [{}])[0].get("ResTarget")
        if target is None or ends_with_star(target["val"]):
            return "?column?"  # really the name of the star's first column, but nobody writes it after a dot
        return target.get("name") or implied_name(target["val"])
    return {"EXISTS_SUBLINK": "exists", "ARRAY_SUBLINK": "array"}.get(kind, "?column?")


def ends_with_star(node: Json) -> bool:
    ((_kind, inner),) = node.items()
    steps = inner.get("fields") or inner.get("indirection") or [{}]
    return "A_Star" in steps[-1]


def literal(node: Json) -> str | None:
    for kind, key in (("sval", "sval"), ("fval", "fval"), ("bsval", "bsval")):
        if kind in node:
            return str(node[kind].get(key, ""))
    return None


def literal_number(node: Json) -> int | None:
    """The argument's value if it is a literal whole number, else None. As a count, a negative number gives nothing."""
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "ival" in constant:
        return int(constant["ival"].get("ival", 0))
    text = literal(constant)
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else None


def literal_text(node: Json) -> str | None:
    constant = node.get("A_Const") or node.get("TypeCast", {}).get("arg", {}).get("A_Const")
    return literal(constant) if constant is not None and "sval" in constant else None
