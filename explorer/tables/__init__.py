"""From raw records to tables of one row per record: columns, types and the SQL that fills them."""
