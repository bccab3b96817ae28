"""Which toolsets a token, a sign-in under way and what a person granted turn on."""

from alembic import op

revision = "0019"
down_revision = "0016"

TOOLSETS = """
ALTER TABLE catalog.tokens ADD COLUMN toolsets text[] NOT NULL DEFAULT '{}';
ALTER TABLE catalog.oauth_requests ADD COLUMN toolsets text[] NOT NULL DEFAULT '{}';
ALTER TABLE catalog.oauth_grants ADD COLUMN toolsets text[] NOT NULL DEFAULT '{}';
GRANT UPDATE (toolsets) ON catalog.oauth_requests TO explorer_service;
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(TOOLSETS)
