"""What is known of a table's columns: statistics, sample rows, why a value is text, where a column comes from."""
