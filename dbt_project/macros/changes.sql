{#-
  A condition for models in which each row comes from one case, one submission, or the submissions of one day. When only changed
  rows are built, it limits the model's SQL to them (explorer/marts/changes). `key`: case_id, form_id or day, a column at this
  place in the SQL and of the model. The day is that of receipt in UTC, -infinity when it is unknown. Tests of such models use the
  condition too; with `column` it means the cases or submissions that a column of another table refers to. No literal can contain
  the mark in it, because quotes in literals are doubled or escaped.
-#}
{% macro is_wanted(key, column=none) -%}
  true /*'{{ key }}'{{ ' ' ~ column if column }}*/
{%- endmacro %}
