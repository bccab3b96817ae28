"""What agents of a tenant may do with personal data."""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Add the policy to the limits of tenants."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE catalog.limits ADD COLUMN personal_data text CHECK (personal_data IN ('mark', 'refuse', 'mask')),"
        " ADD CHECK (principal_id IS NULL OR personal_data IS NULL)"
    )
