"""What a tenant's schemas hold, as the last run that wrote them left it."""

from alembic import op

revision = "0026"
down_revision = "0019"

HOLDINGS = """
ALTER TABLE catalog.schemas ADD COLUMN holdings jsonb;
"""


def upgrade() -> None:
    """Add the column; the next run of each tenant fills it."""
    op.get_bind().exec_driver_sql(HOLDINGS)
