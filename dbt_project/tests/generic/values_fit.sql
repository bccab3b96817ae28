{#-
  Warns with the number of values that do not fit: those that a row names in unfit_columns, and those of `columns` that are the
  key of no row of `parent` (a relation, or the name of a table in the same schema that is built before this one anyway).
-#}
{% test values_fit(model, misfits, columns=[], parent=none, parent_key=none) %}
{{ config(severity='warn', fail_calc='coalesce(sum(values), 0)') }}
{%- set parent_table = model.incorporate(path={'identifier': parent}) if parent is string else parent -%}
{%- set parts = [] -%}
{%- if misfits -%}
{%- do parts.append('select unnest(unfit_columns) as column_name, count(*) as values from ' ~ model ~ ' where unfit_columns is not null group by 1') -%}
{%- endif -%}
{%- for column in columns -%}
{%- do parts.append("select '" ~ column ~ "', count(*) from " ~ model ~ ' as child where ' ~ adapter.quote(column) ~ ' is not null and not exists (select from ' ~ parent_table ~ ' as parent where parent.' ~ parent_key ~ ' = child.' ~ adapter.quote(column) ~ ') having count(*) > 0') -%}
{%- endfor -%}
select column_name, values from ({{ parts | join(' union all ') }}) as found (column_name, values)
{% endtest %}
