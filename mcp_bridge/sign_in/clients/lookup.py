"""Which client is this, and may it ask? First the well-known ones, then the catalog, then the document at its address."""

import logging
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from explorer.catalog import OAuthClient
from explorer.contract.headers import UI_CLIENT, UI_RETURN_PATH
from explorer.core.errors import ExplorerError
from mcp_bridge.sign_in import redirects
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.clients.documents import Documents, DocumentUnusable, is_document_url
from mcp_bridge.sign_in.clients.pinned import pinned_clients, poses_as
from mcp_bridge.sign_in.pages import ClientShown
from mcp_bridge.sign_in.settings_file import Clients

# A document that cannot be renewed is good for this long: publishers refuse servers now and then.
_LAST_GOOD_S = 7 * 86_400
_log = logging.getLogger(__name__)


class ClientRefused(ExplorerError):
    """This program may not ask for access."""

    code = "client_refused"


class ClientDirectory:
    """The clients that may ask, under the operator's policy."""

    def __init__(
        self, catalog: CatalogCalls, policy: Clients, documents: Documents, ui_address: Callable[[], str | None]
    ) -> None:
        """`ui_address`: of the Dagster UI, which is a client of its own kind."""
        self._catalog, self._documents, self._ui_address = catalog, documents, ui_address
        self.policy = policy

    async def find(self, client_id: str) -> OAuthClient:
        """The client with those of its redirect URIs that the policy allows.

        Raises:
            ClientRefused: unknown, blocked, or none of its redirect URIs is allowed.
            DocumentUnusable, CatalogUnavailable, DatabaseTimeout.
        """
        client = await self._known(client_id)
        if client is None:
            raise ClientRefused(
                "This program is not known here.",
                next_step="Remove the connection in the program and add it again.",
            )
        if client.is_blocked:
            raise ClientRefused(
                "The operator of this installation has blocked this program.", next_step="Ask the operator."
            )
        if client.client_id == UI_CLIENT:
            return client
        allowed = tuple(uri for uri in client.redirect_uris if redirects.is_allowed(uri, self.policy))
        if not allowed:
            hosts = ", ".join(sorted({redirects.host_of(uri) for uri in client.redirect_uris})[:5])
            raise ClientRefused(
                f"Programs that send people to {hosts[:200]} are not allowed here.",
                next_step="Ask the operator to allow that host, if you trust it.",
            )
        return replace(client, redirect_uris=allowed)

    async def is_good(self, client_id: str) -> bool:
        """Whether the client exists and is not blocked, without asking anybody but the catalog."""
        client = await self._catalog.ask(lambda catalog: catalog.oauth_clients.get(client_id))
        return client is not None and not client.is_blocked

    def shown(self, client: OAuthClient, redirect_uri: str) -> ClientShown:
        """What a person is told about it."""
        publisher = urlsplit(client.client_id).hostname if client.kind != "registered" else None
        host = urlsplit(redirect_uri).hostname
        return ClientShown(
            client.name,
            publisher,
            redirects.host_of(redirect_uri),
            redirects.is_loopback(redirect_uri),
            poses_as(client.name, publisher, host),
        )

    async def _known(self, client_id: str) -> OAuthClient | None:
        if client_id == UI_CLIENT:
            address = self._ui_address()
            uris = (f"{address.rstrip('/')}{UI_RETURN_PATH}",) if address is not None else ()
            return await self._catalog.ask(
                lambda catalog: catalog.oauth_clients.keep(UI_CLIENT, "pinned", "Dagster UI", uris, None)
            )
        if (pinned := pinned_clients().get(client_id)) is not None:
            return await self._catalog.ask(
                lambda catalog: catalog.oauth_clients.keep(client_id, "pinned", pinned.name, pinned.redirect_uris, None)
            )
        stored = await self._catalog.ask(lambda catalog: catalog.oauth_clients.get(client_id))
        if (stored is not None and (stored.stale_s == 0 or stored.is_blocked)) or not is_document_url(client_id):
            return stored
        try:
            document = await self._documents.fetch(client_id)
        except DocumentUnusable as error:
            if stored is None or stored.stale_s > _LAST_GOOD_S:
                raise
            _log.warning("The document of client %s cannot be renewed: %s", client_id, error.message)
            return stored
        return await self._catalog.ask(
            lambda catalog: catalog.oauth_clients.keep(
                client_id, "document", document.name[:200], document.redirect_uris[:50], document.fresh_s
            )
        )
