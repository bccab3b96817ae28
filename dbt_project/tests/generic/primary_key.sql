{#-
  Finds rows whose key is partly NULL or not unique. It checks only changed rows when no others can fail. `rows_of`: key of the
  case or submission of a row, when that is not the first column.
-#}
{% test primary_key(model, columns, rows_of=none) %}
select {{ columns | join(', ') }}, count(*) as occurrences
from {{ model }}
where {{ is_wanted(rows_of or columns[0]) }}
group by {{ columns | join(', ') }}
having count(*) > 1 or {% for column in columns %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}
