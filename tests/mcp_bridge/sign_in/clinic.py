"""A tenant at the demo server, and its people who sign in."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog import ApiKeyCredential, Catalog, Principal, Scope, SignedInPrincipal, migrate
from explorer.core.settings import Settings
from explorer.providers import faults_of, provider_named
from explorer.tenants import add_tenant
from mcp_bridge.composition import Parts, Services
from mcp_bridge.sign_in.identity import IdentityProvider, Memberships, SignedIn
from mcp_bridge.sign_in.providers.composition import sign_in_parts
from mcp_bridge.sign_in.server import SignInParts
from tests.conftest import PgServer
from tests.demo_browser import CALLBACK, Browser

KEY = "people:maternal"


@dataclass
class Clinic:
    """A tenant of the demo's maternal programme; the nutrition programme is none."""

    settings: Settings
    catalog: Catalog
    services: Services
    server: RunningServer
    folder: Path

    def people(self, more: str = "", **of: str) -> IdentityProvider:
        """The way to sign in at the demo server, by a file with these lines."""
        return self.parts(more, **of).providers[0]

    def parts(self, more: str = "", **of: str) -> SignInParts:
        """All that such a file says."""
        client_id, secret = self.server.control.oauth_client
        (self.folder / "secret").write_text(secret)
        fields = {"provider": "commcare", "url": self.server.url, "client_id": client_id, **of}
        given = "".join(f"\n    {name}: {value}" for name, value in fields.items())
        path = self.folder / "sign_in.yml"
        path.write_text(f"servers:\n  demo:{given}\n    client_secret_file: {self.folder / 'secret'}\n{more}\n")
        return sign_in_parts(path, self.settings, self.services.platform, self.services.databases, provider_named)

    def signs_in(self, people: IdentityProvider, username: str, *domains: str) -> SignedIn:
        async def done() -> SignedIn:
            browser = Browser(self.server)
            challenge = browser.params()["code_challenge"]
            address = await people.authorize_url(redirect_uri=CALLBACK, state="s", challenge=challenge, nonce="n")
            code = parse_qs(urlsplit(browser.comes_from(address, username, *domains)).query)["code"][0]
            return await people.sign_in(code=code, verifier=browser.verifier, nonce="n", redirect_uri=CALLBACK)

        return asyncio.run(done())

    def memberships(self, people: IdentityProvider, username: str, *domains: str) -> Memberships:
        return self.signs_in(people, username, *domains).memberships

    def connected(self, people: IdentityProvider, username: str, *domains: str) -> SignedInPrincipal:
        """A person for whom a program acts."""
        signed_in = self.signs_in(people, username, *domains)
        person = self.catalog.identities.sign_in(signed_in.identity, signed_in.tokens, signed_in.memberships.rights)
        client = self.catalog.oauth_clients.register("A host", (CALLBACK,))
        grant, _ = self.catalog.oauth_grants.issue_code(
            person.principal_id, client.client_id, set(Scope), CALLBACK, "c" * 43, lifetime_s=3600
        )
        principal = Principal(person.principal_id, person.name, person.rights)
        return SignedInPrincipal(principal, "demo", client.client_id, grant, frozenset(Scope), 0.0)

    def aged(self, person: SignedInPrincipal, seconds: float) -> SignedInPrincipal:
        """The person, last checked so long ago."""
        record = self.catalog.identities.find(person.principal.id)
        assert record is not None
        self.catalog.identities.sign_in(record.identity, record.tokens, record.rights, checked_age_s=seconds)
        return replace(person, checked_age_s=seconds)

    def actions(self, person: SignedInPrincipal) -> list[str]:
        return [record.entry.action for record in self.catalog.audit.read(actor=person.principal.name)]


@contextmanager
def open_clinic(pg: PgServer, folder: Path) -> Iterator[Clinic]:
    """The maternal programme of a demo server as a tenant."""
    migrate(pg.connections)
    settings = Settings(
        _env_file=None, home=pg.home, database_url=None, dagster_url="http://127.0.0.1:9", http_timeout_s=5
    )
    with serve_in_thread() as server, Catalog.open(settings) as catalog:
        add_tenant(
            settings, catalog, pg.connections, provider_named("commcare"), key=KEY, server=server.url,
            external_id=MATERNAL, credential=ApiKeyCredential(server.username, server.api_key),
        )  # fmt: skip
        services = Services.compose(settings, Parts(provider_named, faults_of))
        yield Clinic(settings, catalog, services, server, folder)
        services.databases.close()
