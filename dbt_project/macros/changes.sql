{#-
  A condition for models whose rows all come from one case or submission each: where it stands, their SQL is cut down to what
  changed when only that is built (transforms/changes.py). `key`: case_id or form_id. The mark in it is what no literal can hold,
  since quotes in literals are doubled or escaped.
-#}
{% macro is_wanted(key) -%}
  true /*'{{ key }}'*/
{%- endmacro %}
