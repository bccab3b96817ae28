"""How much a tenant may load in a day, where that is not what the settings say."""

from alembic import op

revision = "0016"
down_revision = "0014"

QUOTAS = """
CREATE TABLE catalog.quotas (
    tenant_id uuid PRIMARY KEY REFERENCES catalog.tenants ON DELETE CASCADE,
    runs bigint CHECK (runs >= 0),
    requests bigint CHECK (requests >= 0),
    rows bigint CHECK (rows >= 0),
    bytes bigint CHECK (bytes >= 0)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.quotas TO explorer_service;
"""


def upgrade() -> None:
    """Make the table."""
    op.get_bind().exec_driver_sql(QUOTAS)
