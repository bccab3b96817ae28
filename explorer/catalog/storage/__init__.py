"""The catalog's database: one pool of connections, and its tables as SQLAlchemy sees them."""
