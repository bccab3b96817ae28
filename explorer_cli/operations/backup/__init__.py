"""`explorer backup` and `explorer restore`: databases, keys and sealed audit files in one folder, with their checksums."""
