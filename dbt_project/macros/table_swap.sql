{#-
  Tables are built beside the old one, with indexes, comments and statistics, and put in its place in one transaction:
  readers see the old rows or the new ones. Dependents of the old table are never dropped along with it: the model fails and the old table stays.
-#}
{% materialization table, adapter='postgres' %}
  {%- set existing = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set intermediate = make_intermediate_relation(target_relation) -%}

  {{ drop_relation_if_exists(load_cached_relation(intermediate)) }}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {% call statement('main') -%}
    {{ get_create_table_as_sql(False, intermediate, sql) }}
  {%- endcall %}
  {% do create_indexes(intermediate) %}
  {% do persist_docs(intermediate, model) %}
  {% call statement('swap') -%}
    analyze {{ intermediate }};
    {% if existing is not none -%}
    {{ lock_without_blocking_readers(existing) }}
    drop {{ existing.type }} {{ existing }};
    {%- endif %}
    alter table {{ intermediate }} rename to {{ adapter.quote(target_relation.identifier) }};
  {%- endcall %}
  {% do adapter.cache_dropped(existing) if existing is not none %}
  {% do adapter.cache_renamed(intermediate, target_relation) %}

  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

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
    raise exception 'The table is in use by long-running queries; the old rows stay.' using errcode = 'lock_not_available';
  end
  $lock$;
{%- endmacro %}
