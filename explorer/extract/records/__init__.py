"""API records as rows that Postgres can hold: typed keys, repaired text, generated keys for records that have none."""
