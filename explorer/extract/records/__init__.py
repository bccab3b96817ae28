"""Records of the API as rows that Postgres can hold: typed keys, repaired text, keys of records that have none."""
