-- Casts that never raise: a text that does not fit gives NULL. The one definition of what a typed value is: generated tables, static
-- models and agents' queries call these functions, and transforms/column_types.py classifies by the same patterns.
--
-- Each pattern admits only what the cast behind it takes on every supported server, exactly: nothing is rounded. pg_input_is_valid
-- would not do, it takes 'now', 'tomorrow', 'NaN' and '0x1F' for valid, and PostgreSQL 15 has none.
--
-- PostgreSQL puts such bodies (one expression, no SET, volatility as its parts have it) into the query in place of the call: dates and
-- times are STABLE because their input functions are. So a call costs what the expression does, as long as its argument is cheap.
CREATE SCHEMA IF NOT EXISTS casts;

-- Parts of patterns; they are folded into one constant when a query is planned.
CREATE OR REPLACE FUNCTION casts.spaces() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '[ \t\n\r\f\v]*';

CREATE OR REPLACE FUNCTION casts.number() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9][0-9]?)?';

-- Years 0001 to 9999 with their leap days.
CREATE OR REPLACE FUNCTION casts.day() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '(?!0000)([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))'
    '|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)';

-- The days that nearly all are, but for leap days: the whole pattern takes ten times as long, and bounds such as {1,19} do, too.
CREATE OR REPLACE FUNCTION casts.common_day() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '[12][0-9][0-9][0-9]-((0[1-9]|1[0-2])-([01][1-9]|[12]0|2[1-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)';

CREATE OR REPLACE FUNCTION casts.like_a_day() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '^[ \t\n\r\f\v]*[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]';

-- PostgreSQL keeps microseconds: what is finer must be zero.
CREATE OR REPLACE FUNCTION casts.clock() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0{0,3})?)?';

CREATE OR REPLACE FUNCTION casts.zone() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?';

CREATE OR REPLACE FUNCTION casts.safe_numeric(value text) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN length(value) <= 100 AND value ~ ('^' || casts.spaces() || casts.number() || casts.spaces() || '$') THEN value::numeric
END;
COMMENT ON FUNCTION casts.safe_numeric(text) IS 'The number that the text is, exactly; NULL when it is none.';

-- A zero fraction is a whole number: 12.0 and 1.2E1 are 12.
CREATE OR REPLACE FUNCTION casts.safe_bigint(value text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN length(value) <= 18 AND value ~ '^-?[0-9]+$' THEN value::bigint
    WHEN length(value) <= 100 AND value ~ ('^' || casts.spaces() || casts.number() || casts.spaces() || '$') THEN
        CASE
            WHEN value::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 AND value::numeric = trunc(value::numeric)
                THEN value::numeric::bigint
        END
END;
COMMENT ON FUNCTION casts.safe_bigint(text) IS 'The whole number that the text is; NULL when it is none or has no place in bigint.';

CREATE OR REPLACE FUNCTION casts.safe_boolean(value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE lower(btrim(value)) WHEN 'true' THEN true WHEN 'false' THEN false END;
COMMENT ON FUNCTION casts.safe_boolean(text) IS 'Whether the text is true or false; NULL when it is neither.';

-- The API writes some dates as midnights; a value with any other time of day is no date.
CREATE OR REPLACE FUNCTION casts.safe_date(value text) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN value ~ ('^' || casts.common_day() || '$') THEN value::date
    WHEN value ~ casts.like_a_day() THEN
        CASE
            WHEN value ~ ('^' || casts.spaces() || casts.day() || '([T ]00:00(:00(\.0{1,9})?)?' || casts.zone() || ')?' || casts.spaces() || '$')
                THEN substring(value FROM '[0-9]{4}-[0-9]{2}-[0-9]{2}')::date
        END
END;
COMMENT ON FUNCTION casts.safe_date(text) IS 'The date that the text is, also where it is written as a midnight; NULL when it is none.';

-- The clock on the wall where the answer was given: a zone in the value is not applied.
CREATE OR REPLACE FUNCTION casts.safe_time(value text) RETURNS time LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN value ~ ('^' || casts.spaces() || casts.clock() || casts.zone() || casts.spaces() || '$')
        THEN substring(value FROM '[0-9]{2}:[0-9.:]+')::time
END;
COMMENT ON FUNCTION casts.safe_time(text) IS 'The time of day that the text is, without its zone; NULL when it is none.';

-- A value without a zone is UTC, as everywhere in the API.
CREATE OR REPLACE FUNCTION casts.safe_timestamptz(value text) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN length(value) <= 27 AND value ~ ('^' || casts.common_day() || 'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?Z$')
        THEN value::timestamptz
    WHEN value ~ casts.like_a_day() THEN
        CASE
            WHEN value ~ ('^' || casts.spaces() || casts.day() || '([T ]' || casts.clock() || ')?' || casts.spaces() || '$')
                THEN value::timestamp AT TIME ZONE 'UTC'
            WHEN value ~ ('^' || casts.spaces() || casts.day() || '[T ]' || casts.clock() || casts.zone() || casts.spaces() || '$')
                THEN value::timestamptz
        END
END;
COMMENT ON FUNCTION casts.safe_timestamptz(text) IS 'The instant that the text is, in UTC where it names no zone; NULL when it is none.';

-- Choices of a multiple-select answer: values separated by spaces.
CREATE OR REPLACE FUNCTION casts.choices(value text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value ~ '\S' THEN array_remove(string_to_array(value, ' '), '') END;

-- Part 1..4 of a place: latitude, longitude (degrees), altitude, accuracy (metres). Two to four numbers between white space, the
-- degrees within their bounds; all else is no place, and no part of it is taken. First the way that devices write it, which is
-- read eight times as fast.
CREATE OR REPLACE FUNCTION casts.place_part(value text, part integer) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN length(value) <= 100
        AND value ~ '^-?[0-9]+(\.[0-9]+)? -?[0-9]+(\.[0-9]+)? -?[0-9]+(\.[0-9]+)? -?[0-9]+(\.[0-9]+)?$'
    THEN
        CASE
            WHEN split_part(value, ' ', 1)::numeric BETWEEN -90 AND 90 AND split_part(value, ' ', 2)::numeric BETWEEN -180 AND 180
                THEN split_part(value, ' ', part)::numeric
        END
    WHEN length(value) <= 400
        AND value ~ ('^' || casts.spaces() || casts.number() || '([ \t\n\r\f\v]+' || casts.number() || '){1,3}' || casts.spaces() || '$')
    THEN
        CASE
            WHEN (regexp_split_to_array(btrim(value, E' \t\n\r\f\v'), '[ \t\n\r\f\v]+'))[1]::numeric BETWEEN -90 AND 90
                AND (regexp_split_to_array(btrim(value, E' \t\n\r\f\v'), '[ \t\n\r\f\v]+'))[2]::numeric BETWEEN -180 AND 180
                THEN (regexp_split_to_array(btrim(value, E' \t\n\r\f\v'), '[ \t\n\r\f\v]+'))[part]::numeric
        END
END;

-- They tell nothing but what their argument does.
GRANT USAGE ON SCHEMA casts TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA casts TO PUBLIC;
