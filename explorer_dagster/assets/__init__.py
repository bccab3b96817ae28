"""The four kinds of partitioned assets: discovery, loading, tables, dbt."""
