"""Whole results as files: by a link that carries its own right, or into a folder; CSV, JSON lines, Parquet."""
