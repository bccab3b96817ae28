{#- Whether something within a JSON value is called `case`. -#}
{% macro holds_block(json) -%}
  jsonb_path_exists({{ json }}, 'lax $.**."case"')
{%- endmacro %}
