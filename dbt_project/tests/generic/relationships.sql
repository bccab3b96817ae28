{#-
  Finds rows whose `column_name` is the key of no row of another model, like dbt's own test of this name. It checks only rows that
  changed or refer to changed rows when no others can fail. `rows_of`: key of the case or submission of a row.
-#}
{% test relationships(model, column_name, to, field, rows_of=none) %}
{%- set own = rows_of or column_name %}
select {{ column_name }} as from_field
from {{ model }} as child
where
    {{ column_name }} is not null
    and ({{ is_wanted(own) }}{% if column_name != own %} or {{ is_wanted(field, column_name) }}{% endif %})
    and not exists (select from {{ to }} as parent where parent.{{ field }} = child.{{ column_name }})
{% endtest %}
