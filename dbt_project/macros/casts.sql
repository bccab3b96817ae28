{#-
  Casts that never raise: a value that does not fit gives NULL. Each pattern admits only what the cast after it accepts on every
  supported server; pg_input_is_valid would not do, it takes 'now', 'tomorrow', 'NaN' and '0x1F' for valid.
-#}

{% macro blank_to_null(text) -%}
  nullif({{ text }}, '')
{%- endmacro %}

{% macro safe_bigint(text) -%}
  case when length({{ text }}) <= 40 and {{ text }} ~ '^[ \t\n\r\f\v]*[+-]?[0-9]+[ \t\n\r\f\v]*$' then
    case when ({{ text }})::numeric between -9223372036854775808 and 9223372036854775807 then ({{ text }})::bigint end
  end
{%- endmacro %}

{% macro safe_double(text) -%}
  case when length({{ text }}) <= 100 and {{ text }} ~ '^[ \t\n\r\f\v]*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9][0-9]?)?[ \t\n\r\f\v]*$' then ({{ text }})::double precision end
{%- endmacro %}

{% macro safe_boolean(text) -%}
  case lower(btrim({{ text }})) when 'true' then true when 'false' then false end
{%- endmacro %}

{% macro date_pattern() -%}
  (?!0000)([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)
{%- endmacro %}

{#- The dates that nearly all are, but for leap days: the whole pattern takes ten times as long, and bounds such as {1,19} do, too. -#}
{% macro common_date_pattern() -%}
  [12][0-9][0-9][0-9]-((0[1-9]|1[0-2])-([01][1-9]|[12]0|2[1-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)
{%- endmacro %}

{% macro like_a_date_pattern() -%}
  ^[ \t\n\r\f\v]*[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]
{%- endmacro %}

{% macro time_pattern() -%}
  ([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?
{%- endmacro %}

{% macro zone_pattern() -%}
  (Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?
{%- endmacro %}

{#- The API writes some dates as midnights; a value with any other time of day is no date. -#}
{% macro safe_date(text) -%}
  case
    when {{ text }} ~ '^{{ common_date_pattern() }}$' then ({{ text }})::date
    when {{ text }} ~ '{{ like_a_date_pattern() }}' then
      case when {{ text }} ~ '^[ \t\n\r\f\v]*{{ date_pattern() }}([T ]00:00(:00(\.0{1,9})?)?{{ zone_pattern() }})?[ \t\n\r\f\v]*$' then substring({{ text }} from '[0-9]{4}-[0-9]{2}-[0-9]{2}')::date end
  end
{%- endmacro %}

{#- The clock on the wall where the answer was given: a zone in the value is not applied. -#}
{% macro safe_time(text) -%}
  case when {{ text }} ~ '^[ \t\n\r\f\v]*{{ time_pattern() }}{{ zone_pattern() }}[ \t\n\r\f\v]*$' then substring({{ text }} from '[0-9]{2}:[0-9.:]+')::time end
{%- endmacro %}

{#- A value without a zone is UTC, as everywhere in the API. -#}
{% macro safe_timestamptz(text) -%}
  case
    when {{ text }} ~ '^{{ common_date_pattern() }}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?Z$' and length({{ text }}) <= 30 then ({{ text }})::timestamptz
    when {{ text }} ~ '{{ like_a_date_pattern() }}' then
      case
        when {{ text }} ~ '^[ \t\n\r\f\v]*{{ date_pattern() }}([T ]{{ time_pattern() }})?[ \t\n\r\f\v]*$' then ({{ text }})::timestamp at time zone 'UTC'
        when {{ text }} ~ '^[ \t\n\r\f\v]*{{ date_pattern() }}[T ]{{ time_pattern() }}{{ zone_pattern() }}[ \t\n\r\f\v]*$' then ({{ text }})::timestamptz
      end
  end
{%- endmacro %}

{#- Choices of a multiple-select answer: values separated by spaces. -#}
{% macro choices(text) -%}
  case when {{ text }} ~ '\S' then array_remove(string_to_array({{ text }}, ' '), '') end
{%- endmacro %}

{#- Part 1..4 of a GPS answer: latitude, longitude, altitude (m), accuracy (m). -#}
{% macro geopoint_part(text, part) -%}
  {{ safe_double("split_part(btrim(" ~ text ~ "), ' ', " ~ part ~ ")") }}
{%- endmacro %}

{#- Text elements of a JSON array; anything else gives an empty array. -#}
{% macro text_array(json) -%}
  array(select jsonb_array_elements_text({{ json_array(json) }}))
{%- endmacro %}

{#- A JSON object; anything else gives an empty one. -#}
{% macro json_object(json) -%}
  case when jsonb_typeof({{ json }}) = 'object' then {{ json }} else '{}'::jsonb end
{%- endmacro %}

{#- A JSON array; anything else gives an empty one. -#}
{% macro json_array(json) -%}
  case when jsonb_typeof({{ json }}) = 'array' then {{ json }} else '[]'::jsonb end
{%- endmacro %}
