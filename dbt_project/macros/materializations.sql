{#-
  Tables are built beside the old one, with indexes, comments and statistics, and put in its place in one transaction:
  readers see the old rows or the new ones. Dependents of the old table are never dropped along with it: the model then fails and the
  old table stays. Few statements and macro calls, since dbt's own overhead is most of a small tenant's build.
-#}
{% materialization table, adapter='postgres' %}
  {%- set existing = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set intermediate = make_intermediate_relation(target_relation) -%}
  {%- set left_over = load_cached_relation(intermediate) -%}
  {%- if left_over is not none -%}
    {% do adapter.drop_relation(left_over) %}
  {%- endif -%}

  {% call statement('main') -%}
    create table {{ intermediate }} as (
    {{ sql }}
    )
  {%- endcall %}
  {% call statement('swap') -%}
    {% for index in config.get('indexes', []) -%}
    {{ get_create_index_sql(intermediate, index) }};
    {% endfor -%}
    {% if 'unfit_columns' in model.columns -%}
    create index on {{ intermediate }} ({{ adapter.quote((model.columns.values() | first).name) }}) where unfit_columns is not null;
    {% endif -%}
    {{ comments(intermediate, 'table') }}
    analyze {{ intermediate }};
    {% if existing is not none -%}
    {{ lock_without_blocking_readers(existing) }}
    drop {{ existing.type }} {{ existing }};
    {%- endif %}
    alter table {{ intermediate }} rename to {{ adapter.quote(target_relation.identifier) }};
  {%- endcall %}
  {{ adapter.commit() }}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- Views are replaced whole, in one transaction; nothing but models of this project reads them. -#}
{% materialization view, adapter='postgres' %}
  {%- set existing = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='view') -%}
  {% call statement('main') -%}
    {% if existing is not none -%}
    drop {{ existing.type }} {{ existing }};
    {% endif -%}
    create view {{ target_relation }} as (
    {{ sql }}
    );
    {{ comments(target_relation, 'view') }}
  {%- endcall %}
  {{ adapter.commit() }}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- The descriptions of the model and its columns as comments in the database. -#}
{% macro comments(relation, type) -%}
  comment on {{ type }} {{ relation }} is '{{ model.description | replace("'", "''") }}';
  {% for column in model.columns.values() if column.description -%}
  comment on column {{ relation }}.{{ adapter.quote(column.name) }} is '{{ column.description | replace("'", "''") }}';
  {% endfor -%}
{%- endmacro %}

{#-
  Waits for running readers without queueing new ones behind itself: each try gives up after 0.1 s. After a minute the model
  fails, and the old table stays.
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
