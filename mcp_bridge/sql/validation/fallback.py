"""The same check as `libpg` for machines without PostgreSQL's own parser: sqlglot, with stricter rules to compensate.

sqlglot reads some texts differently from PostgreSQL (escapes in strings and names, `U&`, dollar quotes, digits with
underscores, nested comments, collations, which it leaves out of the tree). Such texts are refused before parsing, and only
the node classes listed here are accepted. It refuses more than necessary, and accepts nothing that it cannot explain.
"""

import re

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import SqlglotError

from mcp_bridge.sql.validation.allowlist import (
    FUNCTIONS,
    RESERVED_NAMES,
    SYSTEM_COLUMNS,
    TEXT_SEARCH_CALLS,
    TYPE_NAME_FUNCTION,
    TYPES,
)
from mcp_bridge.sql.validation.costs import GATHERING, SUPERLINEAR
from mcp_bridge.sql.validation.rules import Checked, Rules

_LITERALS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n\r]*|/\*(?:(?!/\*)[\s\S])*?\*/""")
# The text without literals, quoted names and comments must be plain. Then both parsers split it into the same tokens.
_NOT_PLAIN = re.compile(
    r"""[^\x20-\x7e\t\n\r]|[\\$?{}`'"@#~^!]|/\*|\r|(?<!:):(?!:)|\b\d+_|\b0[xXoObB]|\boperator\b|\bcollate\b|\brows\s+from\b|\bcollation\b"""
    r"""|\buescape\b|\bwithin\b|\btablesample\b|\bxml\w*|\bjson_\w+\s+on\b""",
    re.IGNORECASE,
)
_PREFIXED_LITERAL = re.compile(r"""(?i)(?:\b[ebnux]|u&)\s*['"]""")

# Node classes that are safe in themselves. Functions and types are checked by name.
_NODES: frozenset[type[exp.Expr]] = frozenset(
    {
        exp.Select, exp.Subquery, exp.Union, exp.Except, exp.Intersect, exp.Values, exp.Tuple, exp.Paren,
        exp.With, exp.CTE, exp.TableAlias, exp.Alias, exp.Aliases, exp.Identifier, exp.Column, exp.Star,
        exp.Literal, exp.Null, exp.Boolean, exp.Table, exp.From, exp.Join, exp.Lateral, exp.Where, exp.Group,
        exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.LimitOptions, exp.Offset, exp.Fetch, exp.Distinct,
        exp.Cube, exp.Rollup, exp.GroupingSets, exp.Window, exp.WindowSpec, exp.Filter, exp.Interval, exp.Var,
        exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.And, exp.Or, exp.Not, exp.EQ,
        exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Is, exp.Between, exp.In, exp.Like, exp.ILike, exp.Escape,
        exp.Exists, exp.Any, exp.All, exp.NullSafeEQ, exp.NullSafeNEQ, exp.DPipe, exp.Case, exp.If, exp.Cast,
        exp.Array, exp.Bracket, exp.Slice, exp.DataType, exp.DataTypeParam, exp.AtTimeZone, exp.Extract,
        exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.JSONExtract, exp.JSONExtractScalar,
        exp.JSONPath, exp.JSONPathRoot, exp.JSONPathKey, exp.JSONPathSubscript, exp.Unnest, exp.Explode,
        exp.Concat,
    }
)  # fmt: skip
_BEFORE_PARENTHESIS = (
    FUNCTIONS
    | frozenset(
        """
    select from where and or not in any some all exists on by as when then else case between like ilike is with
    over filter using values union except intersect lateral array having limit offset distinct cast interval
    sets rollup cube grouping order group materialized numeric decimal varchar char character float timestamp
    timestamptz time bit join current_timestamp
    """.split()  # noqa: SIM905
    )
    | {"grouping sets", "group by", "order by", "partition by"}
)
# Functions that PostgreSQL calls without parentheses and that sqlglot may take for columns.
_SESSION_WORDS = frozenset(
    """
    system_user current_user session_user user current_role current_catalog current_schema
    """.split()  # noqa: SIM905
)
# Words that are refused at any place and with any tree, like `RESERVED_NAMES`.
_RESERVED_WORDS = SYSTEM_COLUMNS | {"current_setting", "set_config", "aclitem", "aclexplode", "xml"}
# Functions that gather values, or whose result grows with a number. Together with functions whose work is a product of
# sizes, they are too much for one row.
_GROWING = GATHERING | {"repeat", "lpad", "rpad", "array_fill", "format", "jsonb_pretty"}
_MAX_CALLS = 400
_MAX_PRODUCTS = 3
_BEFORE_COLUMN_LIST = frozenset({"as", "with", "recursive"})
_TYPE_SPELLINGS = frozenset(
    {
        "double precision",
        "character varying",
        "character",
        "timestamp with time zone",
        "timestamp without time zone",
        "time with time zone",
        "float",
    }
)
_QUERIES = (exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Values, exp.Subquery)


def check_statement(sql: str, rules: Rules) -> Checked:
    """Check sqlglot's tree of `sql`. Raises `QueryRejected`."""
    _check_plain(sql, rules)
    end = _check_calls(sql, rules)
    try:
        trees = [tree for tree in sqlglot.parse(sql[:end], read="postgres") if tree is not None]
    # ValueError: of an empty name in quotes.
    except (SqlglotError, ValueError):
        rules.reject("syntax_error", "The statement cannot be read.", next_step="Correct its syntax and send it again.")
    except RecursionError:
        rules.too_complex()
    if len(trees) != 1:
        rules.reject("multiple_statements", "Exactly one statement can run.", next_step="Send one SELECT statement.")
    if not isinstance(trees[0], _QUERIES):
        rules.reject("not_a_select", "Only SELECT and VALUES can run.", next_step="Send a SELECT statement.")
    _check_costs(sql[:end], trees[0], rules)
    for node in trees[0].walk():
        rules.count_node()
        _check_node(node, rules)
    _note_personal(trees[0], rules)
    return Checked(end, None)


def _note_personal(tree: exp.Expr, rules: Rules) -> None:
    """Note every column with personal data that could be meant: by its name, or by a star or the name of a row."""
    rows = {table.alias_or_name for table in tree.find_all(exp.Table)} | {a.name for a in tree.find_all(exp.TableAlias)}
    names = {identifier.name for identifier in tree.find_all(exp.Identifier)}
    stars = any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star))
    # NATURAL and USING compare columns by name.
    joined = any(join.args.get("method") == "NATURAL" for join in tree.find_all(exp.Join))
    whole = stars or joined or any(column.name in rows for column in tree.find_all(exp.Column))
    for table in rules.tables:
        for column in rules.personal.get(table, ()):
            if whole or column in names:
                rules.reads_personal(rules.personal_column(table, column))


def _check_plain(sql: str, rules: Rules) -> None:
    blanked = _LITERALS.sub(lambda found: " " * len(found[0]) if found[0][0] in "-/" else "x" * len(found[0]), sql)
    if prefixed := _PREFIXED_LITERAL.search(
        _LITERALS.sub(lambda f: f[0][0] + "x" * (len(f[0]) - 1) if f[0][0] in "'\"" else " " * len(f[0]), sql)
    ):
        rules.unsupported("A string or name with a prefix", prefixed.start())
    if found := _NOT_PLAIN.search(blanked):
        rules.unsupported(f"{found[0].strip() or 'This character'!r}", found.start())


def _check_calls(sql: str, rules: Rules) -> int:
    """Check each word of the text, independently of the tree; returns the statement's end.

    A word before a parenthesis must be an allowed function, a keyword, a type with a size, or the name of a column list.
    Names that PostgreSQL reserves are refused at any place.
    """
    try:
        tokens = sqlglot.tokenize(sql, read="postgres")
    except SqlglotError:
        rules.reject("syntax_error", "The statement cannot be read.", next_step="Correct its syntax and send it again.")
    end = len(sql)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        end = tokens.pop().start
    before = ""
    for index, token in enumerate(tokens):
        if token.token_type is TokenType.SEMICOLON:
            rules.reject(
                "multiple_statements",
                "Exactly one statement can run.",
                next_step="Send one SELECT statement.",
                at=token.start,
            )
        if token.token_type is TokenType.STRING or not (token.text[:1].isalpha() or token.text[:1] == "_"):
            before = token.text
            continue
        quoted = sql[token.start] == '"'
        word = token.text if quoted else token.text.lower()
        if not quoted and word in _SESSION_WORDS:
            rules.unsupported(word, token.start)
        called = index + 1 < len(tokens) and tokens[index + 1].token_type is TokenType.L_PAREN
        if (word in TEXT_SEARCH_CALLS and called) or word == TYPE_NAME_FUNCTION:
            rules.unsupported(word, token.start)
        if word not in FUNCTIONS and (RESERVED_NAMES.fullmatch(word) or word in _RESERVED_WORDS):
            rules.unsupported(f"The word {word}" if word in sql else "This word", token.start)
        if called and (before == "." or (word not in _BEFORE_PARENTHESIS and before not in _BEFORE_COLUMN_LIST)):
            rules.function([word] if before != "." else ["", word], token.start)
        before = word
    return end


def _name(identifier: exp.Expr | None) -> str:
    if not isinstance(identifier, exp.Identifier):
        return ""
    text = str(identifier.this)
    return text if identifier.args.get("quoted") else text.lower()


def _check_node(node: exp.Expr, rules: Rules) -> None:
    if isinstance(node, exp.Select) and (node.args.get("into") or node.args.get("locks")):
        rules.unsupported("INTO and FOR UPDATE")
    if isinstance(node, exp.Table):
        _check_table(node, rules)
    elif isinstance(node, exp.Column):
        _check_column(node, rules)
    elif isinstance(node, exp.DataType):
        _check_type(node, rules)
    elif isinstance(node, exp.CTE):
        rules.cte(_name(node.args["alias"].this))
        if not isinstance(node.this, _QUERIES):
            rules.reject(
                "data_modifying_cte", "A WITH query would change data.", next_step="Use SELECT in WITH queries."
            )
    elif type(node) not in _NODES and not isinstance(node, exp.Func):
        rules.unsupported(type(node).__name__)


def _check_table(node: exp.Table, rules: Rules) -> None:
    if isinstance(node.this, exp.Func):
        return  # its name was checked as a word; its arguments are separate nodes
    if node.args.get("catalog") or not isinstance(node.this, exp.Identifier):
        rules.unsupported("This item in FROM")
    schema = _name(node.args.get("db")) or None
    rules.relation(schema, _name(node.this), _visible_ctes(node))


def _visible_ctes(node: exp.Expr) -> set[str]:
    """The names of the WITH queries that `node` sees in PostgreSQL: those of enclosing statements; inside a WITH only the
    earlier ones.
    """
    seen: set[str] = set()
    inside: exp.Expr = node
    outer = node.parent
    while outer is not None:
        clause = outer if isinstance(outer, exp.With) else outer.args.get("with_") or outer.args.get("with")
        if isinstance(clause, exp.With) and inside is not clause:
            for query in clause.expressions:
                if query is inside and not clause.args.get("recursive"):
                    break
                seen.add(_name(query.args["alias"].this))
        inside, outer = outer, outer.parent
    return seen


def _check_column(node: exp.Column, rules: Rules) -> None:
    parts = [_name(part) for part in node.parts if isinstance(part, exp.Identifier)]
    rules.column(parts)
    if len(parts) > 3:
        rules.unsupported("A database's name before a column")
    if len(parts) == 3:
        rules.table_reference(parts[0], ".".join(parts[:2]))
    if len(parts) < 2:
        return
    columns = _columns_of_alias(parts[-2], node, rules)
    if not isinstance(node.this, exp.Star) and parts[-1] not in columns:
        rules.unknown_attribute(parts[-1], columns)


def _columns_of_alias(alias: str, node: exp.Expr, rules: Rules) -> list[str]:
    """The columns of `alias` in the innermost query around `node` that has it in FROM."""
    inside, outer = node, node.parent
    while outer is not None:
        if isinstance(outer, exp.Select) and _sees_its_sources(outer, inside, node, rules):
            found = [source for source in _sources(outer) if _source_name(source) == alias]
            if len(found) == 1:
                return _source_columns(found[0], rules)
            if found:
                rules.unsupported("A name that stands twice in FROM")
        inside, outer = outer, outer.parent
    rules.unknown_alias(alias, [])


def _sees_its_sources(select: exp.Select, inside: exp.Expr, node: exp.Expr, rules: Rules) -> bool:
    """Whether `node`, in the part `inside` of `select`, sees the entries of its FROM. A query in FROM without LATERAL does
    not; a join condition sees the two sides of its join.
    """
    if not isinstance(inside, exp.From | exp.Join):
        return True
    source, child = inside.this, node
    while child.parent is not inside:
        child = child.parent  # type: ignore[assignment]
    if child is source:
        return isinstance(source, exp.Lateral)
    if any(not join.args.keys() & {"on", "using", "kind", "side", "method"} for join in select.args.get("joins") or ()):
        rules.unsupported("A condition of a join beside a comma in FROM")
    return True


def _sources(select: exp.Select) -> list[exp.Expr]:
    clause = select.args.get("from_") or select.args.get("from")
    joins = [join.this for join in select.args.get("joins") or ()]
    return [*([clause.this] if clause else []), *joins, *(select.args.get("laterals") or ())]


def _source_name(source: exp.Expr) -> str:
    alias = source.args.get("alias")
    if isinstance(alias, exp.TableAlias) and alias.this is not None:
        return _name(alias.this)
    return _name(source.this) if isinstance(source, exp.Table) else ""


def _source_columns(source: exp.Expr, rules: Rules) -> list[str]:
    alias = source.args.get("alias")
    named = [_name(column) for column in (alias.args.get("columns") or ())] if isinstance(alias, exp.TableAlias) else []
    if isinstance(source, exp.Subquery):
        return _over(_outputs(source.this, rules), named)
    if isinstance(source, exp.Lateral) and isinstance(source.this, exp.Subquery):
        return _over(_outputs(source.this.this, rules), named)
    if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
        name, schema = _name(source.this), _name(source.args.get("db")) or None
        query = _cte(source, name) if schema is None else None
        if query is not None:
            given = [_name(column) for column in query.args["alias"].args.get("columns") or ()]
            return _over(_over(_outputs(query.this, rules), given), named)
        return _over(list(rules.columns_of(schema, name)), named)
    return named  # a function has only the column names that the statement gives it


def _over(columns: list[str], named: list[str]) -> list[str]:
    return named + columns[len(named) :]


def _cte(node: exp.Expr, name: str) -> exp.CTE | None:
    """The WITH query that `name` means at `node`, if any."""
    outer = node.parent
    while outer is not None:
        clause = outer if isinstance(outer, exp.With) else outer.args.get("with_") or outer.args.get("with")
        if isinstance(clause, exp.With):
            for query in clause.expressions:
                if _name(query.args["alias"].this) == name and name in _visible_ctes(node):
                    return query if isinstance(query, exp.CTE) else None
        outer = outer.parent
    return None


def _outputs(query: exp.Expr, rules: Rules) -> list[str]:
    """The names of a query's columns. Stars and unnamed columns are refused, because PostgreSQL would name them."""
    rules.count_node()
    if isinstance(query, exp.Subquery):
        return _outputs(query.this, rules)
    if isinstance(query, exp.Union | exp.Except | exp.Intersect):
        return _outputs(query.this, rules)
    if isinstance(query, exp.Values):
        return [f"column{number}" for number, _ in enumerate(query.expressions[0].expressions, start=1)]
    names: list[str] = []
    for expression in query.expressions:
        if isinstance(expression, exp.Star):
            names += [column for source in _sources(query) for column in _source_columns(source, rules)]  # type: ignore[arg-type]
        elif isinstance(expression, exp.Column) and isinstance(expression.this, exp.Star):
            names += _columns_of_alias(_name(expression.args.get("table")), expression, rules)
        elif isinstance(expression, exp.Alias):
            names.append(_name(expression.args.get("alias")))
        elif isinstance(expression, exp.Column):
            names.append(_name(expression.this))
        else:
            names.append("")
    return names


def _check_costs(sql: str, tree: exp.Expr, rules: Rules) -> None:
    """Refuse costly statements without computing sizes: functions whose result grows may not be combined with functions
    whose work is the product of their arguments' sizes."""
    words = [
        token.text.lower()
        for token in sqlglot.tokenize(sql, read="postgres")
        if token.token_type is not TokenType.STRING
    ]
    products = sum(word in SUPERLINEAR or word in ("&&", "@>", "<@", "like", "ilike") for word in words)
    recursive = any(clause.args.get("recursive") for clause in tree.find_all(exp.With))
    gathers_rows = any(word == "array" for word in words) and any(
        isinstance(a, exp.Array) and a.find(exp.Select) for a in tree.find_all(exp.Array)
    )
    grows = recursive or gathers_rows or any(word in _GROWING for word in words)
    replaces = sum(word in ("replace", "regexp_replace", "array_to_string", "concat_ws") for word in words)
    calls = sum(word == "(" for word in words)
    if (grows and products) or replaces > _MAX_PRODUCTS or (grows and calls > _MAX_CALLS // 10) or calls > _MAX_CALLS:
        rules.too_costly()


def _check_type(node: exp.DataType, rules: Rules) -> None:
    if node.this is exp.DataType.Type.USERDEFINED:
        rules.type_([part.strip('"') for part in str(node.args.get("kind", "")).split(".")])
        return
    if node.this in (exp.DataType.Type.ARRAY, exp.DataType.Type.INTERVAL):
        return  # the element type is a separate node
    base = node.sql("postgres").split("(")[0].strip().lower()
    if base not in TYPES | _TYPE_SPELLINGS:
        rules.type_([base])
