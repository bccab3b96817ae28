"""Alembic's hook: migrates over the connection and inside the transaction that the caller has opened."""

from alembic import context

from explorer.catalog.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=metadata.schema,
)
with context.begin_transaction():
    context.run_migrations()
