"""Which functions and types may an agent's statement name? Everything that is not listed here is refused.

This is an allow-list, because a deny-list always misses something. PostgreSQL 18 has some 3,300 built-in functions. Some
run a string as SQL (`ts_stat`, `query_to_xml`), read files, change settings, take locks shared by all tenants, or print
any object's name. A name is listed when all its overloads compute only from their arguments (or from the clock, or a
random source), reach no catalog, setting, file, session or lock, and are useful for data analysis. The platform's own
casts are the only listed functions that are not built in.

The list has only names. The validator finds them in a statement, and the database decides what a role may execute.
"""

import re

AGGREGATES = frozenset(
    """
    count sum avg min max array_agg string_agg bool_and bool_or every bit_and bit_or bit_xor any_value range_agg
    range_intersect_agg json_agg jsonb_agg json_object_agg jsonb_object_agg corr covar_pop covar_samp regr_avgx
    regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop
    stddev_samp variance var_pop var_samp percentile_cont percentile_disc mode
    """.split()  # noqa: SIM905
)
WINDOW = frozenset(
    """
    rank dense_rank percent_rank cume_dist row_number ntile lag lead first_value last_value nth_value
    """.split()  # noqa: SIM905
)
MATHS = frozenset(
    """
    abs ceil ceiling floor round trunc sign mod power pow sqrt cbrt exp ln log log10 pi degrees radians div gcd
    lcm width_bucket scale trim_scale min_scale factorial random random_normal erf erfc gamma lgamma sin cos tan
    cot asin acos atan atan2 sind cosd tand cotd asind acosd atand atan2d sinh cosh tanh asinh acosh atanh
    """.split()  # noqa: SIM905
)
STRINGS = frozenset(
    """
    lower upper initcap casefold length char_length character_length octet_length bit_length bit_count substr
    substring left right trim ltrim rtrim btrim lpad rpad overlay replace translate reverse repeat concat
    concat_ws format position strpos split_part starts_with string_to_array string_to_table ascii chr to_ascii
    normalize is_normalized unistr unicode_assigned regexp_replace regexp_match regexp_matches
    regexp_split_to_array regexp_split_to_table regexp_count regexp_instr regexp_like regexp_substr
    similar_escape similar_to_escape like_escape like ilike notlike md5 sha224 sha256 sha384 sha512 crc32 crc32c
    hashtext hashtextextended encode decode convert_from convert_to to_hex to_bin to_oct get_bit set_bit
    get_byte set_byte quote_ident quote_literal quote_nullable parse_ident
    """.split()  # noqa: SIM905
)
TIMES = frozenset(
    """
    now clock_timestamp statement_timestamp transaction_timestamp timeofday age date_part date_trunc date_bin
    extract date_add date_subtract justify_days justify_hours justify_interval make_date make_time
    make_timestamp make_timestamptz make_interval to_char to_date to_timestamp to_number isfinite timezone
    overlaps
    """.split()  # noqa: SIM905
)
ARRAYS = frozenset(
    """
    array_length array_lower array_upper array_dims array_ndims array_append array_prepend array_cat
    array_remove array_replace array_position array_positions array_to_string array_fill trim_array array_sort
    array_reverse array_sample array_shuffle cardinality unnest generate_series generate_subscripts
    """.split()  # noqa: SIM905
)
JSON = frozenset(
    """
    to_json to_jsonb row_to_json array_to_json json_build_object jsonb_build_object json_build_array
    jsonb_build_array json_object jsonb_object json_array_length jsonb_array_length json_array_elements
    jsonb_array_elements json_array_elements_text jsonb_array_elements_text json_each jsonb_each json_each_text
    jsonb_each_text json_extract_path jsonb_extract_path json_extract_path_text jsonb_extract_path_text
    json_object_keys jsonb_object_keys json_typeof jsonb_typeof json_strip_nulls jsonb_strip_nulls jsonb_set
    jsonb_set_lax jsonb_insert jsonb_pretty json_to_record jsonb_to_record json_to_recordset jsonb_to_recordset
    jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
    jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_tz jsonb_path_query_array_tz
    jsonb_path_query_first_tz
    """.split()  # noqa: SIM905
)
TEXT_SEARCH = frozenset(
    """
    to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery tsquery_phrase ts_rank
    ts_rank_cd ts_headline setweight numnode querytree strip ts_delete ts_filter tsvector_to_array
    array_to_tsvector json_to_tsvector jsonb_to_tsvector
    """.split()  # noqa: SIM905
)
NETWORK = frozenset(
    """
    host masklen netmask network broadcast family set_masklen abbrev hostmask inet_same_family inet_merge
    """.split()  # noqa: SIM905
)
RANGES = frozenset(
    """
    lower_inc upper_inc lower_inf upper_inf isempty range_merge multirange int4range int8range numrange
    daterange tsrange tstzrange int4multirange int8multirange nummultirange datemultirange tsmultirange
    tstzmultirange
    """.split()  # noqa: SIM905
)
OTHER = frozenset(
    """
    coalesce nullif greatest least grouping num_nulls num_nonnulls enum_first enum_last enum_range pg_typeof
    pg_column_size pg_size_pretty pg_size_bytes gen_random_uuid uuidv4 uuidv7 uuid_extract_timestamp
    uuid_extract_version
    """.split()  # noqa: SIM905
)
# Functions of schema `casts` (explorer/postgres/casts.sql). They return NULL for a text that does not have the type.
SAFE_CASTS = frozenset(
    """
    safe_bigint safe_numeric safe_boolean safe_date safe_time safe_timestamptz place_part
    """.split()  # noqa: SIM905
)
# A type name before parentheses is a cast: `date('2024-01-01')`.
CAST_CALLS = frozenset(
    """
    text varchar bpchar bool int2 int4 int8 float4 float8 numeric date time timetz timestamp timestamptz
    interval bytea bit varbit
    """.split()  # noqa: SIM905
)

FUNCTIONS = (
    AGGREGATES
    | WINDOW
    | MATHS
    | STRINGS
    | TIMES
    | ARRAYS
    | JSON
    | TEXT_SEARCH
    | NETWORK
    | RANGES
    | OTHER
    | SAFE_CASTS
    | CAST_CALLS
)

# No reg* types: their output functions print the name of any object in the database by its number, and no privilege
# prevents that. No row types: a tenant needs no casts to them, and the catalogs' row types are rows of catalogs.
TYPES = frozenset(
    """
    int2 int4 int8 int integer bigint smallint float4 float8 real double numeric decimal bool boolean text
    varchar bpchar char name bytea date time timetz timestamp timestamptz interval json jsonb jsonpath uuid inet
    cidr macaddr macaddr8 bit varbit money tsvector tsquery int4range int8range numrange daterange tsrange
    tstzrange int4multirange int8multirange nummultirange datemultirange tsmultirange tstzmultirange
    """.split()  # noqa: SIM905
)

# Its result prints as a type's name, and its type (regtype) is passed to literals beside it: in `coalesce(pg_typeof(x),
# '16400')` the literal becomes the name of object 16400. So it is allowed only where nothing takes over its type.
TYPE_NAME_FUNCTION = "pg_typeof"

# PostgreSQL's names for functions and types of object numbers, object names and settings.
RESERVED_NAMES = re.compile(
    r"pg_.*|binary_upgrade_.*|lo_.*|(to_)?reg(class|collation|config|dictionary|namespace|oper|operator|proc|procedure|role|type)"
    r"(in|out|send|recv|mod|modin|modout)?"
)

SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})

# Operators for numbers, text, dates, arrays, ranges, networks, JSON and text search. None for geometry, object numbers or
# rows as bytes, and none that only indexes use.
OPERATORS = frozenset(
    """
    + - * / % ^ |/ ||/ @ & | # ~ << >> < > <= >= = <> != || !~ ~* !~* ~~ !~~ ~~* !~~* ^@ -> ->> #> #>> #- ? ?| ?& @? @@
    @@@ @> <@ && -|- &< &> <<= >>= <-> !! ~>=~ ~<=~ ~>~ ~<~
    """.split()  # noqa: SIM905
)

# PostgreSQL looks up the configuration's name, so any other name would show which schemas exist.
TEXT_SEARCH_CONFIGURATIONS = frozenset(
    """
    simple arabic armenian basque catalan danish dutch english finnish french german greek hindi hungarian indonesian irish
    italian lithuanian nepali norwegian portuguese romanian russian serbian spanish swedish tamil turkish yiddish estonian
    """.split()  # noqa: SIM905
)
# The functions whose first argument may be a configuration, and the number of arguments with which it surely is one.
# `ts_headline` and the JSON functions have forms with and without it.
TEXT_SEARCH_CALLS = {
    "to_tsvector": 2, "to_tsquery": 2, "plainto_tsquery": 2, "phraseto_tsquery": 2, "websearch_to_tsquery": 2,
    "json_to_tsvector": 3, "jsonb_to_tsvector": 3, "ts_headline": 4,
}  # fmt: skip
