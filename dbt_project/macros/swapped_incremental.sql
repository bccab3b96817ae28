{#-
  Like dbt's `incremental` with `delete+insert`, and exact: the rows of a `unique_key` go out and come in again where a change of what
  the model reads concerns them, those that are gone included. Which values changed is known to the platform, of each key of the
  tables (`case_id`, `form_id`), and of the columns that such a model names in `meta: tells`. The model asks for them by `changed`.
  Where it is not known, such as after a change of the model, all is built and swapped as by `swapped_table`.
-#}
{% materialization swapped_incremental, adapter='postgres' %}
  {%- set existing = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- if existing is none or not is_update() -%}
    {{ build_and_swap(existing, target_relation) }}
  {%- else -%}
    {{ replace_changed(target_relation) }}
  {%- endif -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- A condition: a change concerns this value of a column, which the changes may call otherwise. True for all rows when the model is
    built as a whole. -#}
{% macro changed(column, told_as=none) -%}
  {%- if is_update() -%}
    {{ column }}::text in (
        select value from {{ tenant_schema('staging') }}.explorer_changes
        where name = '{{ told_as or column }}' and version > {{ updated_since() }}
    )
  {%- else -%}
    true
  {%- endif -%}
{%- endmacro %}

{#- Whether the model replaces rows of the table that is there, and not all. -#}
{% macro is_update() -%}
  {{ return(execute and updated_since() is not none and not should_full_refresh()) }}
{%- endmacro %}

{#- The version of the rows that are there: what changed later is not in them. -#}
{% macro updated_since() -%}
  {{ return(fromjson(env_var('DBT_EXPLORER_UPDATES', '{}')).get(model.name)) }}
{%- endmacro %}

{% macro replace_changed(target_relation) -%}
  {%- set key, tells = config.require('unique_key'), config.get('meta', {}).get('tells', []) -%}
  {%- set new = make_temp_relation(target_relation) -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {% call statement('new') -%}
    {{ get_create_table_as_sql(True, new, sql) }}
  {%- endcall %}
  {%- set is_replaced -%}
    ({{ changed(key, config.get('meta', {}).get('told_as')) }} or {{ key }} is null or {{ key }} in (select {{ key }} from {{ new }}))
  {%- endset -%}
  {% call statement('main') -%}
    {%- if tells %}
    with went as (
        delete from {{ target_relation }} where {{ is_replaced }} returning {{ tells | join(', ') }}
    ),
    told (name, value) as (
        {%- for column in tells %}
        select '{{ column }}', {{ column }}::text from went
        union
        select '{{ column }}', {{ column }}::text from {{ new }}
        {{- ' union' if not loop.last }}
        {%- endfor %}
    )
    insert into {{ tenant_schema('staging') }}.explorer_changes
    select told.name, told.value, this.version
    from (select nextval('{{ tenant_schema('staging') }}.explorer_table_versions') as version offset 0) as this
    cross join told
    where told.value is not null;
    {%- else %}
    delete from {{ target_relation }} where {{ is_replaced }};
    {%- endif %}
    insert into {{ target_relation }} select * from {{ new }};
  {%- endcall %}
  {% call statement('drop') -%}
    drop table {{ new }};
  {%- endcall %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
{%- endmacro %}
