{#-
  Fails with the rows whose key is NULL in part or not unique: among those that changed, if only these can be. `rows_of`: key of the
  case or submission that a row comes from, where that is not the first column.
-#}
{% test primary_key(model, columns, rows_of=none) %}
select {{ columns | join(', ') }}, count(*) as occurrences
from {{ model }}
where {{ is_wanted(rows_of or columns[0]) }}
group by {{ columns | join(', ') }}
having count(*) > 1 or {% for column in columns %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}
