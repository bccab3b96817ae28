{#- Every model lives in a schema of its tenant: the profile's schema with its layer in place of `marts`. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ tenant_schema(custom_schema_name or 'marts') }}
{%- endmacro %}

{% macro tenant_schema(layer) -%}
  {{ target.schema | replace('_marts', '') }}_{{ layer | trim }}
{%- endmacro %}

{#- What the platform keeps of the tenant, in a table that explorer/contract/bookkeeping makes. -#}
{% macro bookkeeping(name) -%}
  {{ tenant_schema('staging') }}.explorer_{{ name }}
{%- endmacro %}
