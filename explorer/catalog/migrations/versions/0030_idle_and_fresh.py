"""Whose schemas were dropped because nobody asked them, and how fresh a tenant is to be."""

from alembic import op

revision = "0030"
down_revision = "0027"

COLUMNS = """
ALTER TABLE catalog.schemas ADD COLUMN expired_at timestamptz;
ALTER TABLE catalog.syncs ADD COLUMN fresh_within_minutes integer CHECK (fresh_within_minutes > 0);
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(COLUMNS)
