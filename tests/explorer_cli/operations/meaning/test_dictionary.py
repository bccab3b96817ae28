"""The data dictionary from the command line: a file in each form, where it was asked for."""

import csv
from pathlib import Path

import pytest

from explorer.catalog import ApiKeyCredential, Catalog, migrate
from explorer.tenants import add_tenant
from tests.conftest import PgServer
from tests.explorer_cli.conftest import Answer, Explorer
from tests.unasked import Unasked

KEY = "demo:cli-dictionary"


@pytest.fixture
def tenant(pg_server: PgServer) -> str:
    """A tenant with one table on the test server."""
    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        tenant = add_tenant(
            pg_server.settings, catalog, pg_server.connections, Unasked("Words & numbers"), key=KEY,
            server="http://127.0.0.1:9", external_id="cli-dictionary",
            credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
        )  # fmt: skip
        login, marts = catalog.schemas.rw_login(tenant), catalog.schemas.get(tenant).marts
    with pg_server.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(f"CREATE TABLE {marts}.cases (case_id text, case_type text)".encode())
        connection.execute(f"COMMENT ON COLUMN {marts}.cases.case_type IS 'Type of the case.'".encode())
    return KEY


def test_a_dictionary_is_written_in_each_form(
    explorer: Explorer, pg_server: PgServer, tenant: str, home: Path, tmp_path: Path
) -> None:
    def run(*arguments: str) -> Answer:
        # The database is there, Dagster is not.
        return explorer("dictionary", *arguments, EXPLORER_HOME=str(pg_server.home))

    told = run(tenant, "--json")
    assert told.code == 0, told.err
    # The tests' commands run in `home`.
    assert told.json["file"] == str(home / "demo-cli-dictionary.html")
    assert (told.json["tables"], told.json["columns"], told.json["languages"]) == (1, 2, [])
    page = (home / "demo-cli-dictionary.html").read_text(encoding="utf-8")
    assert "Words &amp; numbers" in page
    assert "Type of the case." in page

    file = tmp_path / "words"
    assert run(tenant, str(file), "--to", "csv").code == 0
    with file.open(encoding="utf-8", newline="") as lines:
        assert [(row["table"], row["column"]) for row in csv.DictReader(lines)] == [
            ("cases", "case_id"),
            ("cases", "case_type"),
        ]
    # A file that is there is replaced.
    assert run(tenant, str(file), "--to", "md").code == 0
    assert "## cases" in file.read_text(encoding="utf-8")


def test_what_cannot_be_written_is_told_before_anything_is_read(
    explorer: Explorer, pg_server: PgServer, tmp_path: Path
) -> None:
    refused = explorer("dictionary", KEY, str(tmp_path / "no" / "file"), "--json", EXPLORER_HOME=str(pg_server.home))
    assert (refused.code, refused.json["error"]["code"]) == (1, "usage")
    unknown = explorer("dictionary", "demo:nobody", str(tmp_path / "f"), "--json", EXPLORER_HOME=str(pg_server.home))
    assert (unknown.code, unknown.json["error"]["code"]) == (1, "unknown_tenant")
    assert not (tmp_path / "f").exists()
