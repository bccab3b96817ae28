"""The platform's own tables in a tenant's schemas, which describe its data: typed and versioned.

One module per table holds its name, its record and the functions that read and write it. `definitions` says how the tables are
made, `versions` how older ones are upgraded. No other module names such a table. A restored or copied database explains itself,
since the tables lie beside the data that they describe.
"""
