{#-
  The loader's table of a resource. A resource that the tenant's key may not read has no table. Its models are then built from an
  empty relation with the same columns, so that all downstream tables exist.
-#}
{% macro raw(name, key_columns) -%}
  {%- set relation = source('raw', name) -%}
  {%- if execute and adapter.get_relation(relation.database, relation.schema, relation.identifier) is none -%}
    (
      select
        {% for column, type in key_columns.items() -%}
        null::{{ type }} as {{ column }},
        {% endfor -%}
        null::jsonb as record,
        null::timestamptz as _loaded_at,
        null::timestamptz as _deleted_at
      where false
    ) as {{ name }}
  {%- else -%}
    {{ relation }}
  {%- endif -%}
{%- endmacro %}
