"""What the platform remembers of a tenant beside its data: tables of its own in the tenant's schemas, typed and versioned.

One module per table gives its name, its record and the functions that read and write it; `definitions` has how they are made and
`versions` how those of older versions are brought up to date. No other module names such a table. A restored or copied database
explains itself, since everything lies beside the tables it speaks of.
"""
