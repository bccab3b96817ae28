"""How are tables updated without dbt? By the SQL that dbt compiled in their last build, run for changed rows only.

A model whose rows each come from one record, or from all of one day, declares that (macro `is_wanted`): its rows of changed
records are deleted and inserted again. A small table of any other kind is rewritten. Both are one transaction that
keeps the table: readers do not wait and see the rows before or after. The tests of these tables, and tests that read them, run
as dbt compiled them.

`planning` decides for which models this is possible. dbt builds every model whose definition changed.
"""
