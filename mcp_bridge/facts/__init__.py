"""What is known of a tenant: its tables and columns, their freshness, checks, lineage, samples, statistics and semantic layer."""
