"""Two tenants on the real, hardened server: a clinic whose reader queries, and a rival whose data must never appear."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explorer.postgres.connections import Connections
from tests.conftest import tenants
from tests.mcp_bridge.sql.clinic import Clinic

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def clinic(connections: Connections) -> Iterator[Clinic]:
    with tenants(connections) as make:
        clinic, rival = make(), make()
        for tenant, script in ((clinic, "clinic.sql"), (rival, "rival.sql")):
            with tenant.rw.connect() as conn:
                conn.execute(f"SET search_path = {tenant.prefix}_marts")
                conn.execute((HERE / script).read_bytes())
        yield Clinic(clinic.prefix, rival.prefix, clinic.ro, clinic.rw, connections.admin)


@pytest.fixture
def backends(clinic: Clinic) -> Callable[[], int]:
    """How many sessions of the reader the server has now."""

    def count() -> int:
        with clinic.admin.connect(autocommit=True) as conn:
            row = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [clinic.reader.user]
            ).fetchone()
            return int(row[0]) if row else 0

    return count
