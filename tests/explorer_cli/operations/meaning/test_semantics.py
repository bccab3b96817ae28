"""A tenant's semantics from the command line: `show` prints what `set` stored, and `set` accepts it again unchanged."""

from pathlib import Path

import pytest

from explorer.catalog import ApiKeyCredential, Catalog, migrate
from explorer.tenants import add_tenant
from tests.conftest import PgServer
from tests.explorer_cli.conftest import Answer, Explorer
from tests.unasked import Unasked

KEY = "demo:cli-words"
FILE = """\
synonyms:
- table: cases
  column: case_type
  words:
  - प्रकार
examples:
- question: How many cases?
  sql: select count(*) from cases
"""


@pytest.fixture
def tenant(pg_server: PgServer) -> str:
    """A tenant with one table on the test server."""
    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        tenant = add_tenant(
            pg_server.settings, catalog, pg_server.connections, Unasked("Words"), key=KEY,
            server="http://127.0.0.1:9", external_id="cli-words",
            credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
        )  # fmt: skip
        login, marts = catalog.schemas.rw_login(tenant), catalog.schemas.get(tenant).marts
    with pg_server.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(f"CREATE TABLE {marts}.cases (case_id text, case_type text)".encode())
    return KEY


def test_what_is_set_is_shown_and_what_cannot_be_is_refused(
    explorer: Explorer, pg_server: PgServer, tenant: str, tmp_path: Path
) -> None:
    def run(*arguments: str) -> Answer:
        return explorer("semantics", *arguments, EXPLORER_HOME=str(pg_server.home))

    file = tmp_path / "words.yml"
    file.write_text(FILE)
    assert run("show", tenant).out == ""
    assert run("set", tenant, str(file), "--json").json["version"] == 1
    assert run("show", tenant).out == FILE
    file.write_text(FILE.replace("from cases", "from case"))
    refused = run("set", tenant, str(file), "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "semantics_invalid")
    file.write_text("- a list")
    assert run("set", tenant, str(file), "--json").json["error"]["code"] == "usage"
    assert run("show", tenant, "--json").json["version"] == 1
    file.write_text("")
    assert run("set", tenant, str(file), "--json").json["overlay"] == {}
