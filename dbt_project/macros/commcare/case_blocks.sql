{#- Whether a JSON value contains a key `case` at any depth. -#}
{% macro holds_block(json) -%}
  jsonb_path_exists({{ json }}, 'lax $.**."case"')
{%- endmacro %}
