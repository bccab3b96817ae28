{#-
  Like dbt's own `table`, but readers neither wait nor see a gap, and nothing that depends on the table is dropped: the new table is
  built beside the old one and swapped with it at the end of the transaction. Views on the old table read the new one from then on.
-#}
{% materialization swapped_table, adapter='postgres' %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {{ build_and_swap(load_cached_relation(this), target_relation) }}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro build_and_swap(existing, target_relation) -%}
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
    {{ swap(intermediate, existing, target_relation) }}
  {%- endcall %}
  {% do forget_dropped(views_on(model)) %}

  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do apply_grants(target_relation, config.get('grants'), should_revoke=False) %}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
{%- endmacro %}

{#-
  The old table's readers are waited for in short attempts, so that new readers do not queue behind the lock. A view of this project
  that does not fit the new columns is dropped, since dbt makes it again; for any other view the model fails and the old rows stay.
-#}
{% macro swap(new, old, target_relation) -%}
  {%- if old is none -%}
    alter table {{ new }} rename to {{ adapter.quote(target_relation.identifier) }};
  {%- else -%}
  do $swap$
  declare
    old_table constant regclass := {{ dbt.string_literal(old) }}::regclass;
    path constant text := current_setting('search_path');
    locked boolean := false;
    dependents jsonb;
    dependent record;
  begin
    -- With an empty path, the text of a view names every table with its schema.
    perform set_config('search_path', '', true);
    dependents := (
      select jsonb_agg(distinct jsonb_build_object(
        'name', view.oid::regclass, 'options', ' with (' || array_to_string(view.reloptions, ', ') || ')',
        'definition', pg_get_viewdef(view.oid)
      ))
      from pg_depend as found
      join pg_rewrite as rule on rule.oid = found.objid and found.classid = 'pg_rewrite'::regclass
      join pg_class as view on view.oid = rule.ev_class and view.relkind = 'v'
      where found.refclassid = 'pg_class'::regclass and found.refobjid = old_table and view.oid <> old_table
    );
    for attempt in 1..300 loop
      begin
        set local lock_timeout = '100ms';
        -- Views first, as their readers do. This locks a view alone; `lock table` would lock all that it reads.
        for dependent in select * from jsonb_to_recordset(dependents) as (name text) loop
          execute format('alter view %s owner to current_user', dependent.name);
        end loop;
        lock table {{ old }} in access exclusive mode;
        locked := true;
        exit;
      exception when lock_not_available then
        perform pg_sleep(0.1);
      end;
    end loop;
    set local lock_timeout = 0;
    if not locked then
      raise exception 'The table is in use by long-running queries; its old rows stay.' using errcode = 'lock_not_available';
    end if;
    {{ keep_rights(old, new) }}
    alter {{ old.type }} {{ old }} rename to {{ adapter.quote(make_backup_relation(old, old.type).identifier) }};
    alter table {{ new }} rename to {{ adapter.quote(target_relation.identifier) }};
    for dependent in select * from jsonb_to_recordset(dependents) as (name text, options text, definition text) loop
      begin
        execute format('create or replace view %s%s as %s', dependent.name, dependent.options, dependent.definition);
      exception when invalid_table_definition or undefined_column or undefined_function or datatype_mismatch then
        if dependent.name = any (array[{{ names_of(views_on(model)) }}]::text[]) then
          execute format('drop view %s', dependent.name);
        else
          raise;
        end if;
      end;
    end loop;
    drop {{ old.type }} {{ make_backup_relation(old, old.type) }};
    perform set_config('search_path', path, true);
  end
  $swap$;
  {%- endif -%}
{%- endmacro %}

{#- Whoever may read the old table, or some of its columns, may read as much of the new one, and nobody else may. -#}
{% macro keep_rights(old, new) -%}
    for dependent in
      with held as (
        select found.oid, null as attname, acl.grantee
        from pg_class as found cross join aclexplode(found.relacl) as acl
        where found.oid in (old_table, {{ dbt.string_literal(new) }}::regclass)
          and acl.privilege_type = 'SELECT' and acl.grantee not in (0, found.relowner)
        union all
        select found.attrelid, found.attname, acl.grantee
        from pg_attribute as found cross join aclexplode(found.attacl) as acl
        where found.attrelid in (old_table, {{ dbt.string_literal(new) }}::regclass)
          and acl.privilege_type = 'SELECT' and not found.attisdropped
      ), of_old as (
        select attname, grantee from held where oid = old_table
      ), of_new as (
        select attname, grantee from held where oid <> old_table
      )
      select format('revoke select on {{ new }} from %s', grantee::regrole) as statement
      from (select * from of_new except select * from of_old) as lost where attname is null
      union all
      select format('grant select %s on {{ new }} to %s', '(' || quote_ident(attname) || ')', grantee::regrole)
      from (select * from of_old except select * from of_new) as missing
      where attname is null or exists (
        select from pg_attribute as there where there.attrelid = {{ dbt.string_literal(new) }}::regclass
        and there.attname = missing.attname and not there.attisdropped
      )
    loop
      execute dependent.statement;
    end loop;
{%- endmacro %}

{#- The project's views that read a model. -#}
{% macro views_on(model) -%}
  {%- set found = [] -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.materialized == 'view' -%}
    {%- if model.unique_id in node.depends_on.nodes -%}
      {%- do found.append(api.Relation.create(node.database, node.schema, node.alias, type='view')) -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(found) }}
{%- endmacro %}

{% macro names_of(relations) -%}
  {%- for relation in relations -%}
    {{ dbt.string_literal(relation.schema ~ '.' ~ relation.identifier) }}{{ ', ' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{#- Lets dbt know which views `swap` dropped. -#}
{% macro forget_dropped(views) -%}
  {%- for view in views if load_cached_relation(view) is not none -%}
    {%- if run_query('select to_regclass(' ~ dbt.string_literal(view) ~ ')').columns[0].values()[0] is none -%}
      {%- do adapter.drop_relation(view) -%}
    {%- endif -%}
  {%- endfor -%}
{%- endmacro %}
