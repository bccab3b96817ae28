"""One complete pass over a resource of a provider: its pages, the rows in them, and the proof that a record is gone."""
