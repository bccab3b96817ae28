{#-
  A condition for models whose rows all come from one case, one submission, or the submissions of one day each: where it stands,
  their SQL is cut down to what changed when only that is built (explorer/marts/changes.py). `key`: case_id, form_id or day, a column
  there and of the model. The day is that of receipt in UTC, -infinity where there is none. Tests of such models use it too; with
  `column` it stands for the cases or submissions that a column of another table points to. The mark in it is what no literal can
  hold, since quotes in literals are doubled or escaped.
-#}
{% macro is_wanted(key, column=none) -%}
  true /*'{{ key }}'{{ ' ' ~ column if column }}*/
{%- endmacro %}
