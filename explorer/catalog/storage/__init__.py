"""The catalog's database: one connection pool, and the tables for SQLAlchemy."""
