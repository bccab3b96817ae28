"""`explorer tenants requests`: what people asked for is shown, and answered in the operator's name."""

from explorer.catalog import Catalog, migrate
from tests.conftest import PgServer
from tests.explorer_cli.conftest import Answer, Explorer


def test_a_request_is_shown_and_answered(explorer: Explorer, pg_server: PgServer) -> None:
    def run(*arguments: str) -> Answer:
        return explorer("tenants", "requests", *arguments, EXPLORER_HOME=str(pg_server.home))

    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        requests = catalog.tenant_requests
        place = ("commcare", "https://hq.example.org", "cli-malaria", "Malaria \x9b31m")
        asked = requests.ask(*place, "person:www:jane")
        assert requests.ask(*place, "person:www:jane") == asked
        assert "cli-malaria" in run().out
        assert "\x9b" not in run().out
        (row,) = [row for row in run("--json").json["requests"] if row["external_id"] == "cli-malaria"]
        assert (row["actor"], row["decision"]) == ("person:www:jane", None)
        refused = run("refuse", row["id"], "--words", "Not now.", "--json").json["request"]
        assert (refused["decision"], refused["words"]) == ("refused", "Not now.")
        assert run("approve", row["id"][:13]).code == 0
        (found,) = requests.list(server="https://hq.example.org")
        assert (found.decision, found.words) == ("approved", None)
        assert run("approve", "nothing-like-it", "--json").json["error"]["code"] == "unknown_tenant_request"
        actions = [record.entry.action for record in catalog.audit.read(limit=50)]
        assert actions.count("decide_tenant_request") == 2
        assert actions.count("tenant_requested") == 1
