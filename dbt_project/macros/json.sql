{#- What the API's JSON holds. Casts of texts are functions of the database, postgres/casts.sql. -#}

{% macro blank_to_null(text) -%}
  nullif({{ text }}, '')
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

{#- Whether one of a record's texts, by its key, is there and gives nothing when it is cast. -#}
{% macro any_unreadable(casts_by_key) -%}
  {%- for key, cast in casts_by_key.items() %}
        (record ->> '{{ key }}' ~ '\S' and casts.{{ cast }}(record ->> '{{ key }}') is null) is true
        {{- ' or' if not loop.last }}
  {%- endfor %}
{%- endmacro %}
