"""Connections of loader logins: reused while they work, closed in time, opened before they are needed."""

from dataclasses import dataclass

import psycopg
import pytest

from explorer.catalog import SchemaAbsent
from explorer.postgres.connections import Login
from mcp_bridge.clients.loader_connections import LoaderConnections
from tests.mcp_bridge.stage import Stage


@dataclass
class _Asking:
    """A login that counts how often it is asked for."""

    login: Login
    times: int = 0

    def __call__(self) -> Login:
        self.times += 1
        return self.login


def _asking(stage: Stage) -> _Asking:
    rw = stage.catalog.schemas.rw_login(stage.tenants["demo:slow"])
    return _Asking(stage.connections.tenant(rw.user, rw.password))


def test_connections_are_lent_again_until_the_server_ends_them(stage: Stage) -> None:
    """A session that a teardown or a restart has ended is not lent; one that failed is not kept."""
    ask, loaders = _asking(stage), LoaderConnections(statement_timeout_s=5)
    role = ask.login.user

    def backend() -> int:
        with loaders.lent(role, ask) as connection:
            return connection.info.backend_pid

    first = backend()
    assert (backend(), ask.times) == (first, 1)
    with stage.connections.admin.connect(autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    second = backend()
    assert (second != first, ask.times) == (True, 2)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), loaders.lent(role, ask) as connection:
        connection.execute("CREATE TABLE nobody (a int)")
    assert backend() != second
    with loaders.lent(role, ask) as one, loaders.lent(role, ask) as other:
        assert one is not other
    loaders.close()
    assert one.closed
    assert other.closed


def test_a_connection_is_opened_ahead(stage: Stage) -> None:
    """Who asks meanwhile gets that one; a login that cannot be had is the business of who asks."""
    ask, loaders = _asking(stage), LoaderConnections(statement_timeout_s=5)
    role = ask.login.user

    def refuse() -> Login:
        raise SchemaAbsent("Gone.", next_step="Ask again.")

    loaders.prepare(role, ask)
    loaders.prepare(role, ask)
    with loaders.lent(role, ask) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
    loaders.prepare(role, ask)
    assert ask.times == 1
    loaders.prepare("nobody", refuse)
    with pytest.raises(SchemaAbsent), loaders.lent("nobody", refuse):
        pass
    loaders.close()
    assert connection.closed
    loaders.prepare(role, ask)
    with loaders.lent(role, ask) as connection:
        assert ask.times == 2
    assert connection.closed
