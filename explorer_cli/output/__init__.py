"""The output of commands: text for terminals, tables, JSON, progress."""
