{#- Reads values from the API's JSON. Casts of texts are functions of the database, see postgres/casts.sql. -#}

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

{#- Whether a text is there that its cast makes nothing of. -#}
{% macro is_unreadable(text, typed) -%}
  ({{ text }} ~ '\S' and {{ typed }} is null) is true
{%- endmacro %}
