"""Facts about a table's columns: statistics, sample rows, why a column is text, lineage."""
