"""A tenant is (provider, server, external id) for every provider, and a provider may bring its own kind of credential."""

from alembic import op

revision = "0005"
down_revision = "0004"

# Rights on the columns and indexes over them keep working under the new names.
EXTERNAL_IDS = """
ALTER TABLE catalog.tenants RENAME COLUMN domain TO external_id;
ALTER TABLE catalog.tenants RENAME COLUMN domain_key TO external_id_key;
ALTER INDEX catalog.tenants_domain RENAME TO tenants_external_id;
ALTER TABLE catalog.request_slots RENAME COLUMN domain TO external_id;
ALTER TABLE catalog.credentials DROP CONSTRAINT credentials_kind_check;
ALTER TABLE catalog.credentials ADD CONSTRAINT credentials_kind_check CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$');
"""


def upgrade() -> None:
    """Rename the columns."""
    op.get_bind().exec_driver_sql(EXTERNAL_IDS)
