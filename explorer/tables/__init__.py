"""From raw records to tables with one row per record: columns, types and the SQL that computes them."""
