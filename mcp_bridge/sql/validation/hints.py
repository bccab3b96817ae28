"""What should the caller write instead of a refused statement? Advice for people and agents who know SQL, but not this database.

All advice says what to write. Names in it come from the statement or from the tenant's own tables. Advice on the database's
own errors is in `mcp_bridge.sql.execution.hints`.
"""

import difflib
import re
from collections.abc import Collection

# Functions of other databases, and their replacement here.
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
# Types of other databases, and their replacement here.
_TYPES_ELSEWHERE = {
    "datetime": "timestamptz", "string": "text", "str": "text", "int64": "bigint", "number": "numeric",
    "float64": "double precision",
    "varchar2": "text", "nvarchar": "text", "unsigned": "bigint", "signed": "bigint", "tinyint": "smallint", "long": "bigint",
    "object": "jsonb", "variant": "jsonb", "bool8": "boolean", "timestamp_ntz": "timestamp", "timestamp_tz": "timestamptz",
}  # fmt: skip
_TOLERANT = {"try_cast": "numeric", "safe_cast": "numeric", "pg_input_is_valid": "numeric"}
_LAYERS = ("raw_", "stg_", "staging_", "src_", "base_", "int_", "dim_", "fct_", "fact_", "mart_", "tbl_", "v_")
_LIKELY_MAX = 3


def cast_to(*kinds: str, what: str = "column") -> str:
    """How to read text as `numeric`, `date` or `timestamptz`: with the platform's own functions."""
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
    """For a table that does not exist; `names` are the existing ones."""
    meant = f"Did you mean {', '.join(likely)}?" if likely else "List the tables of this tenant to see their names."
    layer = next((prefix for prefix in ("raw_", "stg_", "staging_") if name.lower().startswith(prefix)), None)
    if layer and not any(other.startswith(layer) for other in names):
        return f"Raw and staging tables are not read here; the finished ones have plain names. {meant}"
    return meant


def function(name: str, likely: Collection[str]) -> str:
    """For a function that is not allowed."""
    known = name.lower()
    if known in _TOLERANT:
        return f"Write {cast_to(_TOLERANT[known])}."
    if known in ELSEWHERE:
        return f"In PostgreSQL write {ELSEWHERE[known]}."
    if likely:
        return f"Did you mean {', '.join(likely)}?"
    return "Use the built-in functions for numbers, text, dates, arrays and JSON."


def type_(name: str) -> str | None:
    """For a type that is not allowed; None when no database is known to have it."""
    return f"In PostgreSQL write {_TYPES_ELSEWHERE[name.lower()]}." if name.lower() in _TYPES_ELSEWHERE else None


def syntax(text: str, at: int | None) -> str | None:
    """For a syntax error at the 0-based character `at`: looks for syntax of other databases around that place."""
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
