"""What other versions of PostgreSQL and Python than the usual ones do."""
