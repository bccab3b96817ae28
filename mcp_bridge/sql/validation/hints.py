"""What mends the statement? Advice for the mistakes that people and agents make who know SQL, but not this database.

Every piece of advice says what to write. Names in it come from the statement or from the tenant's own tables.
"""

import difflib
import re
from collections.abc import Collection, Iterable

from mcp_bridge.sql.validation.allowlist import SAFE_CASTS

# Functions of other databases, and what is written here.
ELSEWHERE = {
    "approx_count_distinct": "count(DISTINCT x)",
    "array_contains": "value = ANY (array)",
    "charindex": "strpos(text, part)",
    "collect_list": "array_agg(x)",
    "contains": "x ILIKE '%part%'",
    "convert": "x::type",
    "countif": "count(*) FILTER (WHERE condition)",
    "count_if": "count(*) FILTER (WHERE condition)",
    "curdate": "current_date",
    "date_diff": "one date minus the other, which gives days",
    "date_format": "to_char(x, 'YYYY-MM-DD')",
    "date_sub": "x - interval '1 day'",
    "dateadd": "x + interval '1 day'",
    "datediff": "one date minus the other, which gives days",
    "datename": "to_char(x, 'Month')",
    "datepart": "extract(month FROM x)",
    "day": "extract(day FROM x)",
    "dayofweek": "extract(isodow FROM x)",
    "first": "(array_agg(x ORDER BY y))[1]",
    "getdate": "now()",
    "group_concat": "string_agg(x, ', ')",
    "hour": "extract(hour FROM x)",
    "if": "CASE WHEN condition THEN a ELSE b END",
    "ifnull": "coalesce(x, y)",
    "iff": "CASE WHEN condition THEN a ELSE b END",
    "iif": "CASE WHEN condition THEN a ELSE b END",
    "instr": "strpos(text, part)",
    "isnull": "x IS NULL, or coalesce(x, y)",
    "json_extract": "x -> 'key' or x ->> 'key'",
    "json_extract_scalar": "x ->> 'key'",
    "last": "(array_agg(x ORDER BY y DESC))[1]",
    "last_day": "(date_trunc('month', x) + interval '1 month - 1 day')::date",
    "len": "length(x)",
    "listagg": "string_agg(x, ', ')",
    "locate": "strpos(text, part)",
    "median": "percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
    "minute": "extract(minute FROM x)",
    "month": "extract(month FROM x)",
    "nvl": "coalesce(x, y)",
    "nvl2": "CASE WHEN x IS NOT NULL THEN a ELSE b END",
    "percentile": "percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
    "quarter": "extract(quarter FROM x)",
    "rand": "random()",
    "regexp_contains": "x ~ 'pattern'",
    "regexp_extract": "substring(x FROM 'pattern')",
    "str_to_date": "to_date(x, 'DD.MM.YYYY')",
    "split": "string_to_array(x, ','), or split_part(x, ',', 1)",
    "strftime": "to_char(x, 'YYYY-MM-DD')",
    "sumif": "sum(x) FILTER (WHERE condition)",
    "sysdate": "now()",
    "timestampdiff": "one timestamp minus the other, or extract(epoch FROM a - b)",
    "to_varchar": "x::text",
    "tostring": "x::text",
    "ucase": "upper(x)",
    "lcase": "lower(x)",
    "unix_timestamp": "extract(epoch FROM x)",
    "week": "extract(week FROM x)",
    "weekday": "extract(isodow FROM x)",
    "year": "extract(year FROM x)",
}
# Types of other databases, and what is written here.
_TYPES_ELSEWHERE = {
    "datetime": "timestamptz", "string": "text", "str": "text", "int64": "bigint", "number": "numeric",
    "float64": "double precision",
    "varchar2": "text", "nvarchar": "text", "unsigned": "bigint", "signed": "bigint", "tinyint": "smallint", "long": "bigint",
    "object": "jsonb", "variant": "jsonb", "bool8": "boolean", "timestamp_ntz": "timestamp", "timestamp_tz": "timestamptz",
}  # fmt: skip
_TOLERANT = {"try_cast": "numeric", "safe_cast": "numeric", "pg_input_is_valid": "numeric"}
_LAYERS = ("raw_", "stg_", "staging_", "src_", "base_", "int_", "dim_", "fct_", "fact_", "mart_", "tbl_", "v_")
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
_TOLERATED = {
    "bigint": "bigint", "boolean": "boolean", "date": "date", "double": "numeric", "integer": "bigint", "numeric": "numeric",
    "smallint": "bigint", "timestamp": "timestamptz",
}  # fmt: skip
_LIKELY_MAX = 3


def cast_to(*kinds: str, what: str = "column") -> str:
    """How text becomes a `numeric`, `date` or `timestamptz` where it is one: by the platform's own functions."""
    return f"{' or '.join(f'safe_{kind}({what})' for kind in kinds)}: NULL where it is none"


def closest(name: str, names: Collection[str]) -> list[str]:
    """At most three likely spellings among `names`, best first."""
    folded = name.lower()
    bare = next((folded.removeprefix(layer) for layer in _LAYERS if folded.startswith(layer)), folded)
    likely = [other for other in sorted(names) if other.lower() in {bare, f"{bare}s", bare.removesuffix("s")}]
    for other in difflib.get_close_matches(bare, sorted(names), n=_LIKELY_MAX, cutoff=0.6):
        likely += [other] if other not in likely else []
    squeezed = bare.replace("_", "")
    likely += [other for other in sorted(names) if other.lower().replace("_", "") == squeezed and other not in likely]
    return likely[:_LIKELY_MAX]


def relation(name: str, likely: Collection[str], names: Collection[str]) -> str:
    """For a table that is not there, among `names`."""
    meant = f"Did you mean {', '.join(likely)}?" if likely else "List the tables of this tenant to see their names."
    layer = next((prefix for prefix in ("raw_", "stg_", "staging_") if name.lower().startswith(prefix)), None)
    if layer and not any(other.startswith(layer) for other in names):
        return f"Raw and staging tables are not read here; the finished ones have plain names. {meant}"
    return meant


def function(name: str, likely: Collection[str]) -> str:
    """For a function that may not be used."""
    known = name.lower()
    if known in _TOLERANT:
        return f"Write {cast_to(_TOLERANT[known])}."
    if known in ELSEWHERE:
        return f"In PostgreSQL write {ELSEWHERE[known]}."
    if likely:
        return f"Did you mean {', '.join(likely)}?"
    return "Use the built-in functions for numbers, text, dates, arrays and JSON."


def type_(name: str) -> str | None:
    """For a type that may not be used; None when it is nobody's."""
    return f"In PostgreSQL write {_TYPES_ELSEWHERE[name.lower()]}." if name.lower() in _TYPES_ELSEWHERE else None


def unknown_column(name: str, text: str, columns: Collection[str], likely: Collection[str]) -> str | None:
    """For a column that is not there; None when nothing better than the list of columns can be said."""
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
    """Whether SELECT gives the name to an expression, with AS or without."""
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


def no_function(message: str, call: str) -> str | None:
    """For `function f(text) does not exist` and `operator does not exist: text - text`; `call`: the statement from there on."""
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


def mismatch(message: str) -> str | None:
    """For types that do not go together in a CASE, a UNION or a condition."""
    if "must be type boolean" in message:
        return "A condition is needed there: compare the column with a value, such as x = 'yes' or x IS NOT NULL."
    if "cannot be matched" in message:
        return "All branches need one type: cast them, for instance with ::text."
    return None


def bad_value(message: str, text: str = "") -> str | None:
    """For a value that does not read as the type it was cast to, in the statement `text`."""
    if "malformed array literal" in message:
        return "The column is an array: write 'value' = ANY (column), or column && ARRAY['value', 'other']."
    if "type json" in message:
        return "Some value is no JSON, or a literal is none: write it as '\"text\"'::jsonb, or compare the part as text with ->>."
    value = re.search(r': "(.*)"$', message, re.DOTALL)
    if value and f"'{value[1].replace(chr(39), chr(39) * 2)}'" in text:
        return _bad_literal(message, value[1])
    found = re.search(r"for type (\w+)", message)
    kind = _TOLERATED.get(found[1]) if found else None
    if kind is None:
        return None
    return f"Some value does not read as that type: write safe_{kind}(column), which gives NULL there, or filter such rows."


def _bad_literal(message: str, value: str) -> str:
    """For a value that the statement itself holds."""
    if re.fullmatch(r"[-+]?\d+ (second|minute|hour|day|week|month|year)s?", value.strip(), re.IGNORECASE):
        return f"Write interval '{value}'."
    if "out of range" in message:
        return f"There is no such date or number: mend the literal '{value[:40]}'."
    return (
        f"The literal '{value[:40]}' stands where another type is needed: compare with a value of the column's type, or cast "
        "the column to text (x::text), in all branches of a CASE or coalesce."
    )


def syntax(text: str, at: int | None) -> str | None:
    """For a syntax error at the 0-based character `at`: other databases' spellings around that place."""
    near = text[max((at or 0) - 30, 0) : (at or 0) + 30]
    if "`" in text:
        return 'Names with capitals or blanks are quoted with ", not with `.'
    if re.search(r"(?i)\blimit\s+\d+\s*,", text):
        return "Write LIMIT 10 OFFSET 20."
    if re.search(r"(?i)\b(try|safe)_cast\b", text):
        return f"Write {cast_to('numeric')}."
    if re.search(r"(?i)\bselect\s+top\b", text):
        return "Write LIMIT 10 at the end of the statement."
    if re.search(r"(?i)\binterval\s+\d", text):
        return "Write interval '1 day', with quotes."
    if re.search(r"(?i),\s*\bfrom\b", near):
        return "Remove the comma before FROM."
    if re.search(r",\s*\)", near):
        return "Remove the comma before the closing bracket."
    if re.match(r"\s*(desc|describe)\b", text, re.IGNORECASE):
        return "Use the tool describe_table."
    word = re.match(r"\w*", text[at or 0 :])[0].lower()  # type: ignore[index]
    before = text[: at or 0].lower()
    if word in ("where", "group", "having", "order") and re.search(r"\blimit\s+\d+\s*$", before):
        return "LIMIT stands last: WHERE, GROUP BY, HAVING, ORDER BY, LIMIT."
    if (
        word in ("where", "group", "order")
        and "join" in before
        and not re.search(r"\b(on|using)\b", before.rpartition("join")[2])
    ):
        return "A JOIN needs its condition: JOIN table ON a.x = b.x, or USING (x)."
    if re.search(r"(?i)\b(from|join)\s+'", near):
        return "Names of tables stand without quotes, or in double quotes, not in single ones."
    if re.search(r"(?i)\bin\s+\w", near):
        return "For an array write 'value' = ANY (column); IN takes a list in brackets."
    if re.search(r"(?i)\bdistinct\s+on\s+\w", near):
        return "Write DISTINCT ON (column), with brackets."
    if re.search(r"(?i)\bsimilar\s+'", near):
        return "Write x SIMILAR TO 'pattern', or x ILIKE '%part%'."
    if re.search(r"(?i)\bpivot\b", text):
        return "There is no PIVOT: write count(*) FILTER (WHERE x = 'a') AS a for each column."
    if re.search(r"(?i)\bqualify\b", near):
        return "There is no QUALIFY: put the window function into a subquery and filter outside."
    if re.search(r"\[[A-Za-z_]\w*\]", near):
        return 'Names are quoted with ", not with brackets.'
    return None


def ambiguous(name: str, tables: Iterable[str]) -> str:
    """For a column that several tables have."""
    return f"Write the table's name or alias before it, such as {next(iter(sorted(tables)), 'table')}.{name}."
