"""How are tables brought up to date without dbt? By the SQL that dbt compiled when it built them, run for what changed.

A model whose rows all come from one case, one submission or the submissions of one day each says so (macro `is_wanted`): the rows
of changed ones are taken out and put in again. A small table of any other kind is written anew. Either is one transaction that
keeps the table: readers see the rows before or after and wait for nothing. The tests of these tables, and those that look into
them, run as dbt compiled them.

Which models this can be done for is decided by `builds`; a definition that changed is dbt's again.
"""
