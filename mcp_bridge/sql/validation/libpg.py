"""Does PostgreSQL's own parse tree of a statement contain only what is allowed? Checks libpg_query's JSON.

The check is generic. It visits every object of the tree and knows each object's type, by its wrapper (`{"FuncCall":
{...}}`) or by the field that holds it. A type that is not listed, or an object of unknown type, is refused. So constructs
of a newer grammar fail closed.
"""

from typing import NamedTuple

import pgparse

from mcp_bridge.sql.validation import hints
from mcp_bridge.sql.validation.allowlist import TEXT_SEARCH_CALLS, TEXT_SEARCH_CONFIGURATIONS, TYPE_NAME_FUNCTION
from mcp_bridge.sql.validation.queries import Queries
from mcp_bridge.sql.validation.rules import Checked, Rules
from mcp_bridge.sql.validation.tree import Json, Positions, strings

_LEAVES = frozenset(
    """
    A_Star A_Const Integer Float Boolean BitString String Alias SQLValueFunction JsonFormat JsonReturning
    CTESearchClause
    """.split()  # noqa: SIM905
)
_NODES = frozenset(
    """
    SelectStmt ResTarget ColumnRef A_Expr BoolExpr NullTest BooleanTest CaseExpr CaseWhen CoalesceExpr
    MinMaxExpr RowExpr SubLink FuncCall NamedArgExpr TypeCast TypeName A_ArrayExpr A_Indirection A_Indices
    CollateClause WindowDef SortBy GroupingSet GroupingFunc RangeVar RangeSubselect RangeFunction
    RangeTableSample JoinExpr WithClause CommonTableExpr CTECycleClause List ColumnDef JsonTable JsonTableColumn
    JsonTablePathSpec JsonValueExpr JsonOutput JsonFuncExpr JsonArgument JsonBehavior JsonIsPredicate
    JsonObjectConstructor JsonArrayConstructor JsonArrayQueryConstructor JsonKeyValue JsonAggConstructor
    JsonObjectAgg JsonArrayAgg JsonParseExpr JsonScalarExpr JsonSerializeExpr
    """.split()  # noqa: SIM905
)
# Fields with an object without a wrapper, and the object's type.
_FIELD_TYPES = {
    "alias": "Alias",
    "collClause": "CollateClause",
    "constructor": "JsonAggConstructor",
    "context_item": "JsonValueExpr",
    "cycle_clause": "CTECycleClause",
    "format": "JsonFormat",
    "intoClause": "IntoClause",
    "join_using_alias": "Alias",
    "on_empty": "JsonBehavior",
    "on_error": "JsonBehavior",
    "output": "JsonOutput",
    "over": "WindowDef",
    "pathspec": "JsonTablePathSpec",
    "returning": "JsonReturning",
    "search_clause": "CTESearchClause",
    "typeName": "TypeName",
    "withClause": "WithClause",
    ("SelectStmt", "larg"): "SelectStmt",
    ("SelectStmt", "rarg"): "SelectStmt",
    ("JsonArgument", "val"): "JsonValueExpr",
    ("JsonKeyValue", "value"): "JsonValueExpr",
    ("JsonObjectAgg", "arg"): "JsonKeyValue",
    ("JsonArrayAgg", "arg"): "JsonValueExpr",
    ("JsonParseExpr", "expr"): "JsonValueExpr",
    ("JsonSerializeExpr", "expr"): "JsonValueExpr",
}
_STATEMENTS = {
    "InsertStmt": "INSERT", "UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE", "ExplainStmt": "EXPLAIN",
    "VariableShowStmt": "SHOW", "VariableSetStmt": "SET", "TransactionStmt": "Transaction control", "CopyStmt": "COPY",
}  # fmt: skip
_SAMPLING = ("bernoulli", "system")
_TEXT_TYPES = ("text", "varchar")


class _Visit(NamedTuple):
    kind: str
    node: Json
    ctes: frozenset[str]


def check_statement(sql: str, rules: Rules) -> Checked:
    """Check the tree of `sql`. Raises `QueryRejected`."""
    statements = _parse(sql, rules)
    if len(statements) != 1:
        code = "multiple_statements" if statements else "empty"
        found = f"{len(statements)} statements were sent" if statements else "There is no statement in the text"
        rules.reject(code, f"{found}; exactly one can run.", next_step="Send one SELECT statement.")
    raw = statements[0]
    ((kind, node),) = raw["stmt"].items()
    if kind != "SelectStmt":
        shown = _STATEMENTS.get(kind, kind.removesuffix("Stmt"))
        rules.reject(
            "not_a_select",
            f"{shown} is no query: only SELECT, VALUES and TABLE can run.",
            next_step="Send a SELECT statement.",
        )
    if raw.get("stmt_location", 0) != 0:
        rules.reject(
            "multiple_statements", "The text starts with an empty statement.", next_step="Remove the leading semicolon."
        )
    positions = Positions(sql)
    _NodeCheck(rules, positions).run(node)
    columns = Queries(rules, positions).check(node)
    length = raw.get("stmt_len", 0)
    end = positions.at_byte(length) if length else len(sql)
    return Checked(end, tuple(value.tells for _, value in columns))


def _parse(sql: str, rules: Rules) -> list[Json]:
    try:
        statements: list[Json] = pgparse.parse(sql)
    except pgparse.PGQueryError as error:
        message = str(error.message)
        if "memory exhausted" in message or "stack depth" in message:
            rules.too_complex()
        rules.reject(
            "syntax_error",
            f"PostgreSQL cannot read the statement: {message}.",
            next_step=hints.syntax(sql, max(int(error.position) - 1, 0))
            or "Correct the statement at the position given and send it again.",
            at=max(int(error.position) - 1, 0),
        )
    except RecursionError:
        rules.too_complex()
    except (ValueError, UnicodeError):
        rules.unsupported("This text")
    return statements


class _NodeCheck:
    """One pass over the tree. It has its own stack, so that depth uses memory and not the interpreter's stack."""

    def __init__(self, rules: Rules, positions: Positions) -> None:
        self._positions = positions
        self._rules = rules
        self._stack: list[_Visit] = []
        self._free_type_names: set[int] = set()  # id() of pg_typeof calls at places where nothing takes over their type

    def run(self, root: Json) -> None:
        if "larg" not in root:
            for target in root.get("targetList", ()):
                self._free_type_name(target.get("ResTarget", {}).get("val"))
        self._stack.append(_Visit("SelectStmt", root, frozenset()))
        while self._stack:
            visit = self._stack.pop()
            self._rules.count_node()
            if visit.kind in _LEAVES:
                continue
            if visit.kind not in _NODES:
                self._refuse_node(visit)
            check = getattr(self, f"_check_{visit.kind}", None)
            ctes = visit.ctes
            if check is not None:
                ctes = check(visit) or ctes
            self._push_fields(visit.kind, visit.node, ctes)

    def _push_fields(self, kind: str, node: Json, ctes: frozenset[str]) -> None:
        for field, value in node.items():
            if kind == "SelectStmt" and field == "withClause":
                continue  # its own check pushes it, because each query of a WITH sees different names
            if isinstance(value, dict):
                self._push(kind, field, value, ctes)
            elif isinstance(value, list):
                for item in value:
                    if item:  # an empty object is a null pointer in the tree
                        self._push(kind, field, item, ctes)

    def _push(self, kind: str, field: str, value: Json, ctes: frozenset[str]) -> None:
        keys = list(value)
        if len(keys) == 1 and keys[0][:1].isupper():
            self._stack.append(_Visit(keys[0], value[keys[0]], ctes))
            return
        held = _FIELD_TYPES.get((kind, field)) or _FIELD_TYPES.get(field)
        if value and held is None:
            self._rules.unsupported(f"{kind}.{field}", self._positions.of(value))
        if held is not None:
            self._stack.append(_Visit(held, value, ctes))

    def _refuse_node(self, visit: _Visit) -> None:
        at = self._positions.of(visit.node)
        if visit.kind == "ParamRef":
            self._rules.reject(
                "parameter",
                "The statement has a parameter, and no values come with it.",
                next_step="Write the values into the statement.",
                at=at,
            )
        if visit.kind == "IntoClause":
            self._rules.reject("select_into", "SELECT INTO would create a table.", next_step="Leave INTO out.", at=at)
        if visit.kind == "LockingClause":
            self._rules.reject(
                "locking", "FOR UPDATE and FOR SHARE lock rows.", next_step="Leave the locking clause out.", at=at
            )
        self._rules.unsupported({"XmlExpr": "XML", "XmlSerialize": "XML"}.get(visit.kind, visit.kind), at)

    # One check per node type that contains a name. A check may return the set of CTEs that its fields see.

    def _check_SelectStmt(self, visit: _Visit) -> frozenset[str]:
        with_clause = visit.node.get("withClause")
        if not with_clause:
            return visit.ctes
        queries = [item["CommonTableExpr"] for item in with_clause.get("ctes", ())]
        seen = visit.ctes
        if with_clause.get("recursive"):
            seen |= {query["ctename"] for query in queries}
        for query in queries:
            self._rules.count_node()
            self._rules.cte(query["ctename"], self._positions.of(query))
            if "SelectStmt" not in query["ctequery"]:
                self._rules.reject(
                    "data_modifying_cte",
                    "A WITH query would change data.",
                    next_step="Use SELECT in WITH queries.",
                    at=self._positions.of(query),
                )
            self._stack.append(_Visit("CommonTableExpr", query, seen))
            seen |= {query["ctename"]}
        return seen

    def _check_RangeVar(self, visit: _Visit) -> None:
        node, at = visit.node, self._positions.of(visit.node)
        if "catalogname" in node:
            self._rules.unsupported("A database's name before a table", at)
        self._rules.relation(node.get("schemaname"), node["relname"], visit.ctes, at)

    def _check_FuncCall(self, visit: _Visit) -> None:
        parts = strings(visit.node["funcname"])
        self._rules.function(parts, self._positions.of(visit.node))
        if parts[-1] == TYPE_NAME_FUNCTION and id(visit.node) not in self._free_type_names:
            self._rules.reject(
                "function_not_allowed",
                "pg_typeof() can stand only as a column of the outermost SELECT, or under a cast to text.",
                next_step="Write pg_typeof(...)::text.",
                at=self._positions.of(visit.node),
            )

        if parts[-1] in TEXT_SEARCH_CALLS:
            self._check_text_search(parts[-1], visit.node.get("args", []), self._positions.of(visit.node))

    def _check_text_search(self, name: str, args: list[Json], at: int | None) -> None:
        """Check the first argument as a configuration's name, if PostgreSQL reads or may read it as one."""
        first = args[0].get("A_Const", {}).get("sval") if args else None
        written = first.get("sval", "") if first is not None else None
        if len(args) >= TEXT_SEARCH_CALLS[name]:
            self._rules.text_search(written, at)
        elif (
            name == "ts_headline"
            and len(args) == 3
            and written is not None
            and written not in TEXT_SEARCH_CONFIGURATIONS
        ):
            self._rules.reject(
                "text_search_configuration",
                "It is not clear whether the first argument is a configuration or the document.",
                next_step="Cast the document to text, or write the configuration's name: 'simple', 'english'.",
                at=at,
            )

    def _check_TypeCast(self, visit: _Visit) -> None:
        if strings(visit.node["typeName"].get("names"))[-1:] in ([name] for name in _TEXT_TYPES) and not visit.node[
            "typeName"
        ].get("arrayBounds"):
            self._free_type_name(visit.node.get("arg"))

    def _free_type_name(self, value: Json | None) -> None:
        call = (value or {}).get("FuncCall")
        if call and strings(call["funcname"])[-1] == TYPE_NAME_FUNCTION:
            self._free_type_names.add(id(call))

    def _check_TypeName(self, visit: _Visit) -> None:
        node = visit.node
        if node.get("setof") or node.get("pct_type"):
            self._rules.unsupported("SETOF or %TYPE", self._positions.of(node))
        self._rules.type_(strings(node.get("names")), self._positions.of(node))

    def _check_A_Expr(self, visit: _Visit) -> None:
        if "BETWEEN" in visit.node.get("kind", ""):
            return  # the grammar sets these words; the caller cannot choose them
        self._rules.operator(strings(visit.node.get("name")), self._positions.of(visit.node))

    def _check_SortBy(self, visit: _Visit) -> None:
        if "useOp" in visit.node:
            self._rules.operator(strings(visit.node["useOp"]), self._positions.of(visit.node))

    def _check_SubLink(self, visit: _Visit) -> None:
        if "operName" in visit.node:
            self._rules.operator(strings(visit.node["operName"]), self._positions.of(visit.node))

    def _check_CollateClause(self, visit: _Visit) -> None:
        self._rules.collation(strings(visit.node.get("collname")), self._positions.of(visit.node))

    def _check_RangeTableSample(self, visit: _Visit) -> None:
        method = strings(visit.node.get("method"))
        if method[-1:] not in ([name] for name in _SAMPLING) or len(method) > 1:
            self._rules.unsupported("This sampling method", self._positions.of(visit.node))

    def _check_ColumnRef(self, visit: _Visit) -> None:
        fields, at = visit.node.get("fields", []), self._positions.of(visit.node)
        parts = strings(fields)
        self._rules.column(parts, at)
        if len(fields) > 3:
            self._rules.unsupported("A database's name before a column", at)
        if len(fields) == 3:
            self._rules.table_reference(parts[0], ".".join(parts[:2]), at)

    def _check_A_Indirection(self, visit: _Visit) -> None:
        self._rules.column(strings(visit.node.get("indirection")), self._positions.of(visit.node))

    def _check_JoinExpr(self, visit: _Visit) -> None:
        for name in strings(visit.node.get("usingClause")):
            self._rules.column([name], None)

    def _check_ColumnDef(self, visit: _Visit) -> None:
        if visit.node.keys() & {"raw_default", "cooked_default", "constraints", "fdwoptions", "identity"}:
            self._rules.unsupported("A column with constraints", self._positions.of(visit.node))
