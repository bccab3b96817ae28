"""A sign-in that waits for the first data of a project space may last longer."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Let its end be moved."""
    op.get_bind().exec_driver_sql("GRANT UPDATE (expires_at) ON catalog.oauth_requests TO explorer_service")
