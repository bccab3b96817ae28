"""What Dagster does by itself: tenants take their turns, are looked at, held back, tried again, and kept as partitions."""
