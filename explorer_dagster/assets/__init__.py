"""The five kinds of partitioned assets: discovery, loading, tables, dbt, saved models."""
