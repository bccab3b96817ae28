"""Facts about a tenant: tables and columns, and their freshness, checks, lineage, samples, statistics and semantic layer."""
