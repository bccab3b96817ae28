"""Raw tables: their shape, how rows are packed for COPY, and how differences are written in one transaction."""
