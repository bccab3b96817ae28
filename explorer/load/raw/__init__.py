"""Raw tables, whatever writes them: their shape, how rows are packed and compared, and what is written with them."""
