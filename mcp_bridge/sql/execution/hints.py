"""What should the caller write instead of the statement that the database refused? One next step per mistake, by SQLSTATE.

`next_step` is the entry point. Names in it come from the statement or from the tables that it reads.
"""

import re
from collections.abc import Collection, Iterable

from mcp_bridge.sql.validation.allowlist import SAFE_CASTS
from mcp_bridge.sql.validation.hints import cast_to, syntax
from mcp_bridge.sql.validation.validator import ValidatedQuery

_NUMERIC = frozenset(
    """
    sum avg stddev stddev_pop stddev_samp variance var_pop var_samp corr regr_slope percentile_cont round abs ceil floor
    """.split()  # noqa: SIM905
)
_TIMES = frozenset("date_trunc extract date_part age date_bin isfinite to_char".split())  # noqa: SIM905
_TIME_TYPES = ("date", "timestamp with time zone", "timestamp without time zone", "interval")
_TEXTS = frozenset(
    """
    lower upper initcap length trim btrim ltrim rtrim substr substring left right split_part strpos position like
    regexp_replace regexp_match regexp_matches replace starts_with string_to_array
    """.split()  # noqa: SIM905
)
_FUNCTION = re.compile(r"function (?:pg_catalog\.)?\"?(\w+)\"?\((.*)\) does not exist")
_FIRST_ARGUMENT = re.compile(r'(?i)[\w.]+\s*\(\s*(?:distinct\s+)?((?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?)\s*[,)]')
_OPERATOR = re.compile(r"operator does not exist: (?:(.+?) )?([^\w\s\"]+) (.+)")
_SAFE_CAST_KINDS = {
    "bigint": "bigint", "boolean": "boolean", "date": "date", "double": "numeric", "integer": "bigint", "numeric": "numeric",
    "smallint": "bigint", "timestamp": "timestamptz",
}  # fmt: skip
# For states whose messages have no further detail.
_NEXT_STEPS = {
    "42601": "Correct the statement at the position given and send it again.",
    "42703": "Describe the table to see its columns.",
    "42883": "Check the function's or operator's argument types; cast the arguments if needed.",
    "42803": "Add the column to GROUP BY or put it into an aggregate.",
    "42846": "Take a part of it by a function (extract, date_part, ->>), or cast it to text first.",
    "42P20": "Put the window function into a subquery and filter outside.",
    "42702": "Write the table's name or alias before the column.",
    "42P10": "Add the expression of ORDER BY to the SELECT list, or leave DISTINCT out.",
    "21000": "The subquery may give one row only: aggregate in it, or add LIMIT 1 with an ORDER BY.",
    "22012": "Guard the divisor with nullif(x, 0).",
}
_OTHERWISE = "Correct the statement and send it again."
_BAD_VALUES = ("22P02", "22003", "22007", "22008")


def next_step(state: str, message: str, shown: str, query: ValidatedQuery, at: int | None) -> str:
    """How to correct a statement that failed with this SQLSTATE and primary message.

    `shown`: the message with only the names that the caller may see; `at`: 0-based character that PostgreSQL points to.
    """
    if state == "42803" and (step := _not_grouped(shown)):
        return step
    return _for_message(state, message, query, at) or _NEXT_STEPS.get(state, _OTHERWISE)


def _for_message(state: str, message: str, query: ValidatedQuery, at: int | None) -> str | None:
    if state in _BAD_VALUES:
        return _bad_value(message, query.text)
    if state == "42883":
        return _no_function(message, query.text[at:] if at is not None else "")
    if state == "42804":
        return _mismatch(message)
    if state == "42601":
        return syntax(query.text, at)
    if "requires an OVER clause" in message:
        return "Write OVER (ORDER BY x) behind the window function."
    if state == "42809" and "requires array" in message:
        return "ANY takes an array: for one value write =, for a list IN ('a', 'b')."
    if state == "42702" and (found := re.search(r'reference "([^"]+)" is ambiguous', message)):
        return _ambiguous(found[1], query.tables)
    return None


def _not_grouped(message: str) -> str | None:
    if "cannot be nested" in message:
        return "Aggregate in a subquery, and aggregate its result around it."
    if "not allowed in WHERE" in message:
        return "Filter aggregated values in HAVING, or in a query around this one."
    if found := re.search(r'column "([^"]+)" must appear', message):
        return f"Add GROUP BY {found[1]}, or put it into an aggregate such as max({found[1]})."
    return None


def unknown_column(name: str, text: str, columns: Collection[str], likely: Collection[str]) -> str | None:
    """For an unknown column; None when there is nothing better than the list of columns."""
    if not re.search(r"(?i)\bfrom\b", text):
        return "The statement has no FROM: name the table that has the column."
    if name and _is_given_name(name, text):
        return (
            f"{name} is a name given in SELECT, which WHERE and HAVING do not see: repeat the expression there, or filter "
            "in a query around this one."
        )
    if name.lower() in ("rownum", "rowid", "row_num"):
        return "Write LIMIT at the end of the statement, or row_number() OVER (ORDER BY x) in a subquery."
    if likely:
        return f"Did you mean {', '.join(likely)}?"
    if f'"{name}"' in text and name not in columns:
        written = name.replace("'", "''")
        return f"Double quotes are for names. Write text in single quotes: '{written}'."
    return None


def _is_given_name(name: str, text: str) -> bool:
    """Whether SELECT gives an expression this name, with AS or without."""
    written = re.escape(name)
    without = re.search(rf"(?i)(\S+)\s+{written}\s*(?:,|\bfrom\b)", text)
    bare = (
        without is not None and not without[1].endswith(",") and without[1].lower() not in ("select", "distinct", "all")
    )
    return bare or re.search(rf'(?i)\bas\s+"?{written}\b', text) is not None


def _argument_types(written: str) -> list[str]:
    return [part.strip() for part in written.split(",")] if written else []


def _is_text(type_: str) -> bool:
    return type_ in ("text", "character varying", "character", "unknown")


def _no_function(message: str, call: str) -> str | None:
    """For `function f(text) does not exist` and `operator does not exist: text - text`; `call`: the text from the call on."""
    if found := _FUNCTION.search(message):
        argument = _FIRST_ARGUMENT.match(call)
        return _wrong_arguments(found[1], _argument_types(found[2]), argument[1] if argument else "column")
    if found := _OPERATOR.search(message):
        return _wrong_operands(found[1] or "", found[2], found[3])
    if "could not identify an equality operator" in message or "could not identify an ordering operator" in message:
        return "json has no order and no equality: cast it to jsonb, or take a part as text with ->>."
    return None


def _wrong_arguments(name: str, types: list[str], argument: str) -> str | None:
    if name in SAFE_CASTS and types and not _is_text(types[0]):
        return f"{name} reads text, and this is {types[0]} already: use it as it is, or write x::text."
    if any(type_.endswith("[]") for type_ in types) and (name in _NUMERIC or name in _TEXTS):
        return "The column is an array: take its entries with unnest(x) in FROM, or join them with array_to_string(x, ', ')."
    if name in ("unnest", "array_length", "cardinality") and types and _is_text(types[0]):
        return "The column is text, not an array: split it with string_to_array(x, ' ')."
    if name == "array_length" and len(types) == 1:
        return "Write cardinality(x), or array_length(x, 1)."
    if name == "string_agg" and len(types) == 1:
        return "string_agg needs a separator: write string_agg(x, ', ')."
    if name in ("sum", "avg", "round", "trunc") and set(types) & set(_TIME_TYPES):
        return "That is a date or a time: count days with one date minus the other, cut it with date_trunc('month', x)."
    if name == "count" and len(types) > 1:
        return "count takes one argument: write count(DISTINCT (a, b)) for pairs of values."
    if name == "round" and types[:1] == ["double precision"]:
        return "round to digits needs numeric: write round(x::numeric, 2)."
    if name in _NUMERIC and any(_is_text(type_) for type_ in types):
        return f"{name} needs numbers, and this is text: cast it, {cast_to('numeric', what=argument)}."
    if name in _NUMERIC and "boolean" in types:
        return "Count what is true with count(*) FILTER (WHERE condition), or cast with x::int."
    if name in _TIMES and any(_is_text(type_) for type_ in types[-2:]):
        return f"{name} needs a date or a time and the column is text: cast it, {cast_to('date', 'timestamptz')}."
    if name in _TEXTS and types and not _is_text(types[0]):
        return f"{name} needs text: write x::text."
    if name.startswith(("json", "jsonb")) and any(_is_text(type_) for type_ in types):
        return "The column is text: write x::jsonb."
    if name in ("string_agg", "array_to_string") and types and not _is_text(types[0]):
        return f"{name} needs text: write x::text as its first argument, and a separator as the second."
    return None


def _wrong_operands(left: str, operator: str, right: str) -> str | None:
    kinds = {left, right}
    text = _is_text(left) or _is_text(right)
    if operator == "==":
        return "Equality is written with one sign: =."
    if operator == "+" and left in ("text", "character varying") and right in ("text", "character varying", "unknown"):
        return "Text is joined with ||; for sums cast both sides, " + cast_to("numeric") + "."
    if operator in ("->", "->>", "#>", "#>>", "@>", "?") and text:
        return "The column is text, not JSON: write x::jsonb before the operator."
    if (left.endswith("[]") or right.endswith("[]")) and not (left.endswith("[]") and right.endswith("[]")):
        return "One side is an array: write 'value' = ANY (column), or column @> ARRAY['value']."
    if operator in ("~~", "~~*", "~", "~*", "!~~", "!~~*"):
        return "Patterns need text: write x::text."
    if text and (kinds & set(_TIME_TYPES)):
        return f"A date is compared or reckoned with a text column: cast the text, {cast_to('date', 'timestamptz')}."
    if text and operator in ("-", "*", "/", "%"):
        return f"The column is text: for numbers or dates cast it, {cast_to('numeric', 'date')}."
    if text and operator in ("=", "<>", "<", ">", "<=", ">="):
        return f"Text is compared with another type: write the value in single quotes, or cast the column, {cast_to('numeric')}."
    if "boolean" in kinds and operator in ("=", "<>"):
        return "The column is true or false: write column, NOT column, or column IS TRUE."
    if kinds & set(_TIME_TYPES) and kinds & {"integer", "bigint", "numeric", "double precision"}:
        return "Add to a timestamp with interval '1 day'; whole days can be added to a date: x::date + 1."
    return "Both sides need types that go together: cast one of them, for instance x::text or x::numeric."


def _mismatch(message: str) -> str | None:
    """For types that do not match in a CASE, a UNION or a condition."""
    if "must be type boolean" in message:
        return "A condition is needed there: compare the column with a value, such as x = 'yes' or x IS NOT NULL."
    if "cannot be matched" in message:
        return "All branches need one type: cast them, for instance with ::text."
    return None


def _bad_value(message: str, text: str) -> str:
    """For a value that cannot be read as the type of its cast, in the statement `text`."""
    if "malformed array literal" in message:
        return "The column is an array: write 'value' = ANY (column), or column && ARRAY['value', 'other']."
    if "type json" in message:
        return "Some value is no JSON, or a literal is none: write it as '\"text\"'::jsonb, or compare the part as text with ->>."
    value = re.search(r': "(.*)"$', message, re.DOTALL)
    if value and f"'{value[1].replace(chr(39), chr(39) * 2)}'" in text:
        return _bad_literal(message, value[1])
    found = re.search(r"for type (\w+)", message)
    kind = _SAFE_CAST_KINDS.get(found[1]) if found else None
    write = (
        f"safe_{kind}(column)"
        if kind
        else "safe_bigint, safe_numeric, safe_date, safe_time or safe_timestamptz(column)"
    )
    return (
        f"Some value does not read as that type, or has no place in it: write {write}, which gives NULL there, or filter "
        "such rows."
    )


def _bad_literal(message: str, value: str) -> str:
    """For a value that is written in the statement itself."""
    if re.fullmatch(r"[-+]?\d+ (second|minute|hour|day|week|month|year)s?", value.strip(), re.IGNORECASE):
        return f"Write interval '{value}'."
    if "out of range" in message:
        return f"There is no such date or number: mend the literal '{value[:40]}'."
    return (
        f"The literal '{value[:40]}' stands where another type is needed: compare with a value of the column's type, or cast "
        "the column to text (x::text), in all branches of a CASE or coalesce."
    )


def _ambiguous(name: str, tables: Iterable[str]) -> str:
    """For a column name that several tables have."""
    return f"Write the table's name or alias before it, such as {next(iter(sorted(tables)), 'table')}.{name}."
