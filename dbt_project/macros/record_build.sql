{#-
  Records a model's build where the platform keeps such records, in the transaction of the build: which run made it, by which
  definition, from which version of the tables that it reads, and how many rows it has. Whoever runs dbt names the run in the
  session's settings, and the models' definitions in a variable of the environment.
-#}
{% macro record_build() -%}
  {%- set records = adapter.get_relation(this.database, tenant_schema('staging'), 'explorer_tables') if execute -%}
  {%- set loads = adapter.get_relation(this.database, tenant_schema('raw'), '_explorer_cursors') if execute -%}
  {%- set parents = ['null'] -%}
  {%- for node in model.depends_on.nodes -%}
    {%- do parents.append(dbt.string_literal(node.split('.') | last)) -%}
  {%- endfor -%}
  {%- if records -%}
    {%- set definitions = fromjson(env_var('DBT_EXPLORER_DEFINITIONS', '{}')) -%}
    insert into {{ records }} as recorded
      (name, kind, definition, relation, built_from, version, run_id, changed_at, rows, findings, whole_version)
    select
      {{ dbt.string_literal(this.identifier) }}, 'model', {{ dbt.string_literal(definitions.get(model.name, '')) }},
      {{ dbt.string_literal(this) }}::regclass,
      (
        select coalesce(jsonb_object_agg(name, version), '{}')
        from (
          select name, version::text from {{ records }}
          {%- if loads %}
          union all
          select table_name, changed_at::text from {{ loads }} where changed_at is not null
          {%- endif %}
        ) as read (name, version)
        where name in ({{ parents | join(', ') }})
      ),
      nextval('{{ records.schema }}.explorer_table_versions'),
      coalesce(current_setting('explorer.run_id', true), ''), now(),
      {{ 'null' if config.get('materialized') == 'view' else '(select count(*) from ' ~ this ~ ')' }}, '[]',
      currval('{{ records.schema }}.explorer_table_versions')
    on conflict (name) do update set
      kind = excluded.kind, definition = excluded.definition, relation = excluded.relation, built_from = excluded.built_from,
      version = excluded.version, run_id = excluded.run_id, changed_at = excluded.changed_at, rows = excluded.rows
      {%- if config.get('materialized') != 'swapped_incremental' %},
      whole_version = excluded.whole_version
      {%- else %},
      -- A swap makes another table.
      whole_version = case when recorded.relation = excluded.relation then recorded.whole_version else excluded.version end
      {%- endif %}
  {%- endif -%}
{%- endmacro %}
