{#-
  Records a model's build where the platform keeps such records, in the transaction of the build: which run made it, by which
  definition, from which version of the tables that it reads, how many rows and which columns it has, and what of that the run
  changed. Whoever runs dbt names the run in the
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
    with before as (
      select rows, columns from {{ records }} where name = {{ dbt.string_literal(this.identifier) }}
    ),
    now as (
      select jsonb_object_agg(attname, format_type(atttypid, atttypmod)) as columns,
        {{ 'null::bigint' if config.get('materialized') == 'view' else '(select count(*) from ' ~ this ~ ')' }} as rows
      from pg_attribute
      where attrelid = {{ dbt.string_literal(this) }}::regclass and attnum > 0 and not attisdropped
    ),
    noted as (
      insert into {{ records.schema }}.explorer_run_changes as known
        (run_id, name, at, rows_before, rows_after, columns_before, columns_after)
      select
        coalesce(current_setting('explorer.run_id', true), ''), {{ dbt.string_literal(this.identifier) }}, clock_timestamp(),
        before.rows, now.rows,
        case when before.columns is distinct from now.columns then before.columns end,
        case when before.columns is distinct from now.columns then now.columns end
      from now left join before on true
      on conflict (run_id, name) do update set
        at = excluded.at, rows_after = excluded.rows_after,
        columns_before = coalesce(known.columns_before, excluded.columns_before),
        columns_after = coalesce(excluded.columns_after, known.columns_after)
    )
    insert into {{ records }} as recorded
      (name, kind, definition, relation, built_from, version, run_id, changed_at, rows, findings, whole_version, columns)
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
      now.rows, '[]', currval('{{ records.schema }}.explorer_table_versions'), now.columns
    from now
    on conflict (name) do update set
      kind = excluded.kind, definition = excluded.definition, relation = excluded.relation, built_from = excluded.built_from,
      version = excluded.version, run_id = excluded.run_id, changed_at = excluded.changed_at, rows = excluded.rows,
      columns = excluded.columns
      {%- if config.get('materialized') != 'swapped_incremental' %},
      whole_version = excluded.whole_version
      {%- else %},
      -- A swap makes another table.
      whole_version = case when recorded.relation = excluded.relation then recorded.whole_version else excluded.version end
      {%- endif %}
  {%- endif -%}
{%- endmacro %}
