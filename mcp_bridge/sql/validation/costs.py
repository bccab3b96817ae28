"""How large may a value become, and how long may one expression run where PostgreSQL cannot be interrupted?

Most built-in functions loop over their arguments without checking for a cancel; PostgreSQL's executor checks only between
rows. So the work of one row must be limited before the statement runs. Known are the size of a literal, and the count in
`repeat('x', 5)`. Assumed are `CELL` bytes for a cell of a table, and `GATHERED` for the result of an aggregate or a
recursion. The unit of work is about 6 ns on a machine of 2024 (measured: `translate` and `btrim` one unit per pair of
characters, `strpos` an eighth, array and JSON containment a sixteenth).
"""

from collections.abc import Callable, Sequence

from mcp_bridge.sql.validation.allowlist import SAFE_CASTS

CELL = 8 * 1024
SCALAR = 64
GATHERED = 250_000_000  # the server's memory limit for one process leaves no room for more
LARGEST = 1_000_000_000  # no PostgreSQL value is larger
NUMERIC = 64_000
MAX_WORK = 2_000_000_000  # some 12 s

# Aggregates and constructs that gather the values of many rows into one.
GATHERING = frozenset(
    """
    string_agg array_agg json_agg jsonb_agg json_object_agg jsonb_object_agg range_agg json_arrayagg json_objectagg
    """.split()  # noqa: SIM905
)
# Functions whose result does not grow with the arguments.
_SMALL_RESULT = (
    frozenset(
        """
    count avg bool_and bool_or every length char_length character_length octet_length bit_length bit_count strpos position
    starts_with ascii array_length array_lower array_upper array_ndims array_position cardinality json_array_length
    jsonb_array_length json_typeof jsonb_typeof jsonb_path_exists jsonb_path_match pg_column_size pg_size_pretty pg_typeof
    md5 sha224 sha256 sha384 sha512 crc32 crc32c hashtext hashtextextended regexp_count regexp_instr regexp_like get_bit
    get_byte extract date_part date_trunc date_bin now age make_date make_time make_timestamp make_timestamptz
    make_interval to_timestamp to_date isfinite rank dense_rank percent_rank cume_dist row_number ntile num_nulls
    num_nonnulls grouping width_bucket sign random random_normal isempty is_normalized unicode_assigned like ilike
    notlike jsonb_path_exists_tz jsonb_path_match_tz ts_rank ts_rank_cd numnode generate_series chr to_hex to_bin to_oct
    """.split()  # noqa: SIM905
    )
    | SAFE_CASTS
)
# Bytes of the result per byte of the arguments, if more than one.
_EXPANDING = dict.fromkeys(
    """
    encode decode quote_ident quote_literal quote_nullable to_json to_jsonb row_to_json array_to_json json_build_object
    jsonb_build_object json_build_array jsonb_build_array json_object jsonb_object normalize string_to_array
    regexp_split_to_array jsonb_set jsonb_insert similar_escape similar_to_escape like_escape to_tsvector
    json_to_tsvector jsonb_to_tsvector unistr convert_from to_ascii upper lower initcap casefold
    """.split(),  # noqa: SIM905
    8,
)
_SMALL_TYPES = frozenset(
    """
    int2 int4 int8 int integer bigint smallint float4 float8 real double bool boolean char date time timetz timestamp
    timestamptz interval uuid inet cidr macaddr macaddr8 money int4range int8range daterange tsrange tstzrange name
    """.split()  # noqa: SIM905
)


def cap(size: float) -> int:
    return min(int(size), LARGEST)


def of_type(type_name: str, is_array: bool, size: int) -> int:
    """The size of a value of `size` bytes after a cast to the type."""
    if is_array:
        return cap(2 * size)
    if type_name in _SMALL_TYPES:
        return SCALAR
    return min(size, NUMERIC) if type_name == "numeric" else size


def work_of_cast(type_name: str, size: int) -> float:
    """Units of work to cast a value of `size` bytes to the type."""
    return size + (size**2 / 64 if type_name in ("tsquery", "tsvector") else 0)


def of_call(name: str, sizes: Sequence[int], counts: Sequence[int | None], texts: Sequence[str | None]) -> int:
    """The size of a function's result. `counts` and `texts` have the arguments that are literal numbers and strings."""
    total = sum(sizes)
    if name in GATHERING:
        return GATHERED
    if name in _SMALL_RESULT:
        return SCALAR
    if name == "repeat" and len(sizes) == 2:
        return cap(sizes[0] * counts[1]) if counts[1] is not None else LARGEST
    if name in ("lpad", "rpad") and len(sizes) > 1:
        return cap(4 * counts[1]) if counts[1] is not None else LARGEST
    if name == "array_fill":
        return LARGEST if len(sizes) < 2 else cap(16 * 4 ** min(sizes[1], 30))
    if name == "format":
        return _formatted(texts[0] if texts else None, total)
    if name in ("replace", "regexp_replace") and len(sizes) > 2:
        return cap(sizes[0] * max(sizes[2], 1))
    if name in ("array_to_string", "concat_ws") and len(sizes) > 1:
        return cap(total + (len(sizes) + total) * max(sizes[1 if name == "array_to_string" else 0], 1))
    if name == "jsonb_pretty":
        return cap(total * min(total, 5_000))
    if name in ("to_char", "to_number"):
        return cap(16 * total)
    if name in ("power", "pow", "exp", "factorial"):
        return NUMERIC
    return cap(total * _EXPANDING.get(name, 1) + SCALAR)


def _formatted(pattern: str | None, total: int) -> int:
    """The size of `format`'s result. `%10s` pads to a width; a width that is not a number in the text may be any."""
    if pattern is None or "*" in pattern:
        return LARGEST
    digits = "".join(char if char.isdigit() else " " for char in pattern).split()
    return cap(8 * total + 4 * sum(int(number) for number in digits if len(number) < 12) + 64)


_Work = Callable[[Sequence[int]], float]


def _pairs(weight: float) -> _Work:
    return lambda sizes: weight * sizes[0] * max(sum(sizes[1:]), 1) if sizes else 0


def _square(weight: float) -> _Work:
    return lambda sizes: weight * sum(sizes) ** 2


_SUPERLINEAR: dict[str, _Work] = {
    **dict.fromkeys(("translate", "btrim", "ltrim", "rtrim", "trim"), _pairs(1)),
    **dict.fromkeys(
        ("strpos", "position", "replace", "split_part", "string_to_array", "string_to_table", "starts_with"),
        _pairs(1 / 8),
    ),
    **dict.fromkeys(("like", "ilike", "notlike"), _pairs(1 / 8)),
    **dict.fromkeys(("normalize", "is_normalized"), _square(1)),
    **dict.fromkeys(("to_date", "to_timestamp", "to_char", "to_number"), _pairs(1 / 16)),
    **dict.fromkeys(
        (
            "ts_headline",
            "ts_rank",
            "ts_rank_cd",
            "ts_delete",
            "ts_filter",
            "tsquery_phrase",
            "to_tsquery",
            "plainto_tsquery",
            "phraseto_tsquery",
            "websearch_to_tsquery",
        ),
        _square(1 / 64),
    ),
    **dict.fromkeys(
        """jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
        jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_tz jsonb_path_query_array_tz
        jsonb_path_query_first_tz""".split(),  # noqa: SIM905
        _square(1 / 64),
    ),
    "jsonb_pretty": lambda sizes: sum(sizes) * min(sum(sizes), 5_000) / 4,
}
SUPERLINEAR = frozenset(_SUPERLINEAR)
# Functions that read only the head of their argument.
_CONSTANT = frozenset(
    {"array_length", "array_upper", "array_lower", "cardinality", "pg_typeof", "octet_length", "coalesce"}
)
_ARITHMETIC = frozenset("* / % ^".split())  # noqa: SIM905
_CONTAINMENT = frozenset("&& @> <@ ?| ?& ? @? @@ @@@ - #-".split())  # noqa: SIM905
_LIKE = frozenset("~~ ~~* !~~ !~~*".split())  # noqa: SIM905
_COMPARISON = frozenset("< > <= >= = <> !=".split())  # noqa: SIM905


def work_of_call(name: str, sizes: Sequence[int]) -> float:
    """Units of work that one call may take without checking for a cancel."""
    if name in _CONSTANT or name in GATHERING:
        return 0
    return sum(sizes) + (_SUPERLINEAR[name](sizes) if name in _SUPERLINEAR else 0)


def work_of_operator(name: str, left: int, right: int) -> float:
    if name in _CONTAINMENT and left > SCALAR and right > SCALAR:
        return left * right / 16
    if name in _LIKE:
        return left * right / 8
    if name in _ARITHMETIC:
        return min(left, NUMERIC) * min(right, NUMERIC) / 100
    return (left + right) / 16


def of_operator(name: str, left: int, right: int) -> int:
    """The size of an operator's result."""
    if (
        name in _COMPARISON
        or name in _LIKE
        or name in ("&&", "@>", "<@", "?", "?|", "?&", "@?", "@@", "~", "~*", "!~", "!~*")
    ):
        return SCALAR
    if name == "^":
        return NUMERIC
    if name in ("+", "-", "%"):
        return max(left, right, SCALAR)
    if name in _ARITHMETIC:
        return max(min(left + right, NUMERIC), SCALAR)
    return cap(left + right)
