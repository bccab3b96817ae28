{#-
  Builds a new table beside the old one, with indexes, comments and statistics, and swaps them in one transaction: readers see
  either the old rows or the new ones. Dependents of the old table are never dropped: the model fails and the old table stays.
  Indexes get explicit names, because PostgreSQL cuts the names that it generates, and tables built at the same time could get
  equal ones. There are few statements and macro calls, because dbt's own overhead is most of a small tenant's build; each
  transaction begins without a statement and ends with its last one.
-#}
{% materialization table, adapter='postgres' %}
  {%- set existing = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set intermediate = target_relation.incorporate(path={'identifier': this.identifier ~ '__dbt_tmp'}) -%}
  {%- set rows -%}
    drop table if exists {{ intermediate }};
    create table {{ intermediate }} as (
    {{ sql }}
    )
  {%- endset -%}
  {%- set response, nothing = adapter.execute(rows) -%}
  {%- do store_result('main', response=response, agate_table=nothing) -%}
  {%- set swap -%}
    {% for index in config.get('indexes', []) -%}
    {%- set index = adapter.parse_index(index) -%}
    create {{ 'unique' if index.unique }} index "{{ index.render(intermediate) }}" on {{ intermediate }} {{ 'using ' ~ index.type if index.type }} ({{ index.columns | join(', ') }});
    {% endfor -%}
    {% if 'unfit_columns' in model.columns -%}
    create index "{{ local_md5(intermediate ~ ' unfit ' ~ invocation_id) }}" on {{ intermediate }} ({{ adapter.quote((model.columns.values() | first).name) }}) where unfit_columns is not null;
    {% endif -%}
    {{ comments(intermediate, 'table') }}
    analyze {{ intermediate }};
    {% if existing is not none -%}
    {{ lock_without_blocking_readers(existing) }}
    drop {{ existing.type }} {{ existing }};
    {% endif -%}
    alter table {{ intermediate }} rename to {{ adapter.quote(target_relation.identifier) }};
    commit
  {%- endset -%}
  {%- do adapter.add_query(swap, auto_begin=False) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- Replaces a view in one transaction; only models of this project read views. -#}
{% materialization view, adapter='postgres' %}
  {%- set existing = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='view') -%}
  {%- set replacement -%}
    {% if existing is not none -%}
    drop {{ existing.type }} {{ existing }};
    {% endif -%}
    create view {{ target_relation }} as (
    {{ sql }}
    );
    {{ comments(target_relation, 'view') }}
    commit
  {%- endset -%}
  {%- set response, nothing = adapter.execute(replacement) -%}
  {%- do store_result('main', response=response, agate_table=nothing) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- Runs tests that store no failures and have no limit with fewer steps than dbt does; other tests run in dbt's own way. -#}
{% materialization test, adapter='postgres' %}
  {%- if should_store_failures() or config.get('limit') is not none or config.get('sql_header') -%}
    {{ return(materialization_test_default()) }}
  {%- endif -%}
  {%- set failures = config.get('fail_calc') -%}
  {%- set query -%}
    select {{ failures }} as failures, {{ failures }} {{ config.get('warn_if') }} as should_warn, {{ failures }} {{ config.get('error_if') }} as should_error
    from (
    {{ sql }}
    ) as found
  {%- endset -%}
  {%- set response, found = adapter.execute(query, fetch=True) -%}
  {%- do store_result('main', response=response, agate_table=found) -%}
  {{ return({'relations': []}) }}
{% endmaterialization %}

{#- Writes the descriptions of the model and its columns as comments in the database. -#}
{% macro comments(relation, type) -%}
  comment on {{ type }} {{ relation }} is '{{ model.description | replace("'", "''") }}';
  {% for column in model.columns.values() if column.description -%}
  comment on column {{ relation }}.{{ adapter.quote(column.name) }} is '{{ column.description | replace("'", "''") }}';
  {% endfor -%}
{%- endmacro %}

{#-
  Waits for running readers without making new readers wait: each attempt gives up after 0.1 s. After a minute the model fails
  and the old table stays.
-#}
{% macro lock_without_blocking_readers(relation) -%}
  do $lock$
  begin
    for attempt in 1..300 loop
      begin
        set local lock_timeout = '100ms';
        lock table {{ relation }} in access exclusive mode;
        set local lock_timeout = 0;
        return;
      exception when lock_not_available then
        perform pg_sleep(0.1);
      end;
    end loop;
    raise exception 'The table is in use by long-running queries; its old rows stay.' using errcode = 'lock_not_available';
  end
  $lock$;
{%- endmacro %}
