{#- Models lie in a schema of their tenant: the profile's schema, which is that of marts, with the layer in place of `marts`. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ tenant_schema(custom_schema_name or 'marts') }}
{%- endmacro %}

{% macro tenant_schema(layer) -%}
  {{ target.schema | replace('_marts', '') }}_{{ layer | trim }}
{%- endmacro %}
