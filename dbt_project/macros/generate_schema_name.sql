{#- Every model is in a schema of its tenant: the profile's schema with its layer in place of `marts`. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ tenant_schema(custom_schema_name or 'marts') }}
{%- endmacro %}

{% macro tenant_schema(layer) -%}
  {{ target.schema | replace('_marts', '') }}_{{ layer | trim }}
{%- endmacro %}

{#- A table of the tenant's bookkeeping, which explorer/contract/bookkeeping creates. -#}
{% macro bookkeeping(name) -%}
  {{ tenant_schema('staging') }}.explorer_{{ name }}
{%- endmacro %}
