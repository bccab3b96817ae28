{#-
  Warns with the number of values that do not fit: those named in a row's unfit_columns, and those of `columns` that are the key of
  no row of `parent`. It checks only rows that changed or refer to changed rows when no others can fail. `rows_of`: key of the case
  or submission of a row. A repetition and its parent come from the same submission.
-#}
{% test values_fit(model, misfits, rows_of, columns=[], parent=none, parent_key=none) %}
{{ config(severity='warn', fail_calc='coalesce(sum(values), 0)') }}
{%- set parts = [] -%}
{%- if misfits -%}
{%- do parts.append('select unnest(unfit_columns) as column_name, count(*) as values from ' ~ model ~ ' where unfit_columns is not null group by 1') -%}
{%- endif -%}
{%- for column in columns -%}
{%- set wanted = is_wanted(rows_of) ~ (' or ' ~ is_wanted(parent_key, column) if parent_key == rows_of != column else '') -%}
{%- do parts.append("select '" ~ column ~ "', count(*) from " ~ model ~ ' as child where (' ~ wanted ~ ') and ' ~ adapter.quote(column) ~ ' is not null and not exists (select from ' ~ parent ~ ' as parent where parent.' ~ parent_key ~ ' = child.' ~ adapter.quote(column) ~ ') having count(*) > 0') -%}
{%- endfor -%}
select column_name, values from ({{ parts | join(' union all ') }}) as found (column_name, values)
{% endtest %}
