"""Changes through the webserver are in the audit trail, or are not made."""

import asyncio
import shutil
from pathlib import Path

import pytest

from explorer.catalog import Catalog
from explorer.core.settings import Settings
from explorer.postgres.connections import SERVICE_ROLE
from explorer.postgres.state import CONNECTION_FILE, ConnectionRecord, update_record
from explorer_dagster.webserver.__main__ import Changes
from tests.conftest import PgServer


def test_a_login_that_was_replaced_is_read_again(pg_server: PgServer, catalog: Catalog, tmp_path: Path) -> None:
    def spoil(record: ConnectionRecord) -> None:
        record.roles[SERVICE_ROLE] = "of-before"

    shutil.copy(pg_server.home / CONNECTION_FILE, tmp_path)
    update_record(tmp_path, spoil)
    changes = Changes(Settings(_env_file=None, home=tmp_path, database_url=None))
    with pytest.raises(OSError, match="cannot be written"):
        asyncio.run(changes.record("dagster:ui", ["terminateRun"]))
    shutil.copy(pg_server.home / CONNECTION_FILE, tmp_path)
    asyncio.run(changes.record("dagster:ui", ["terminateRun"]))
    (found,) = catalog.audit.read(actor="dagster:ui", limit=1)
    assert (found.entry.action, found.entry.detail) == ("dagster_mutation", {"names": ["terminateRun"]})
