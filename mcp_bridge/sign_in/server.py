"""The authorization server: which address is served by what. Any bridge serves any step; nothing is kept in the process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from explorer.catalog import Catalog
from mcp_bridge.runs.first_sync import FirstSyncs
from mcp_bridge.sign_in import metadata
from mcp_bridge.sign_in.addresses import PREFIX, RESOURCE_METADATA, SERVER_METADATA, Addresses
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.clients import ClientDirectory
from mcp_bridge.sign_in.clients.documents import Documents
from mcp_bridge.sign_in.endpoints.answers import CORS, for_programs
from mcp_bridge.sign_in.endpoints.browser import Browser
from mcp_bridge.sign_in.endpoints.connecting import ConnectPages
from mcp_bridge.sign_in.endpoints.consent import ConsentPages
from mcp_bridge.sign_in.endpoints.journeys import Desk, for_people
from mcp_bridge.sign_in.endpoints.registering import RegisterPages
from mcp_bridge.sign_in.endpoints.tokens import TokenEndpoints
from mcp_bridge.sign_in.endpoints.ui import UiSessions
from mcp_bridge.sign_in.identity import BearerTokens, IdentityProvider, MembershipCheck, SelfService
from mcp_bridge.sign_in.settings_file import Clients


@dataclass(frozen=True)
class SignInParts:
    """How people sign in. `providers`: the ways to do so; `policy`: which programs may ask; `membership`: keeps rights fresh;
    `jwt`: takes tokens of an organisation's own provider; `documents`: fetches metadata documents of clients; `ui_address`: where
    browsers reach the Dagster UI, None while that is not known; `ui_session_s`: how long a session there lasts; `self_service`:
    how people get more tenants, by the name of the way to sign in."""

    providers: Sequence[IdentityProvider]
    policy: Clients
    membership: MembershipCheck
    jwt: BearerTokens | None = None
    documents: Documents = field(default_factory=Documents)
    ui_address: Callable[[], str | None] = lambda: None
    ui_session_s: int = 12 * 3600
    self_service: Mapping[str, SelfService] = field(default_factory=dict)


def authorization_server(
    addresses: Addresses, parts: SignInParts, catalog: Callable[[], Catalog], syncs: FirstSyncs
) -> Starlette:
    """The app for all addresses under which `is_served`."""
    calls, policy = CatalogCalls(catalog), parts.policy
    clients = ClientDirectory(calls, policy, parts.documents, parts.ui_address)
    desk = Desk(
        addresses,
        {provider.name: provider for provider in parts.providers},
        clients,
        calls,
        Browser(is_secure=addresses.is_secure),
    )
    tokens, first, second = (
        TokenEndpoints(addresses, clients, calls),
        ConsentPages(desk),
        ConnectPages(desk, parts.ui_session_s),
    )
    sessions = UiSessions(calls, parts.membership)
    spaces = RegisterPages(desk, parts.self_service, syncs)
    about_server = metadata.server_metadata(addresses, with_registration=policy.registration)
    about_resource = metadata.resource_metadata(addresses)

    async def server_metadata(_: Request) -> Response:
        return _published(about_server)

    async def resource_metadata(_: Request) -> Response:
        return _published(about_resource)

    public = ["GET", "OPTIONS"]
    posted = ["POST", "OPTIONS"]
    app = Starlette(
        routes=[
            Route(SERVER_METADATA, for_programs(server_metadata), methods=public),
            Route(RESOURCE_METADATA, for_programs(resource_metadata), methods=public),
            Route(f"{RESOURCE_METADATA}{addresses.mcp_path}", for_programs(resource_metadata), methods=public),
            Route(f"{PREFIX}/token", for_programs(tokens.token), methods=posted),
            Route(f"{PREFIX}/revoke", for_programs(tokens.revoke), methods=posted),
            Route(f"{PREFIX}/introspect", for_programs(sessions.introspect), methods=posted),
            Route(f"{PREFIX}/register", for_programs(tokens.register), methods=posted),
            Route(f"{PREFIX}/authorize", for_people(first.authorize), methods=["GET"]),
            Route(f"{PREFIX}/consent", for_people(first.again), methods=["GET"]),
            Route(f"{PREFIX}/consent", for_people(first.answered), methods=["POST"]),
            Route(f"{PREFIX}/callback/{{provider}}", for_people(second.callback), methods=["GET"]),
            Route(f"{PREFIX}/connect", for_people(second.page), methods=["GET"]),
            Route(f"{PREFIX}/connect", for_people(second.answered), methods=["POST"]),
            Route(f"{PREFIX}/space", for_people(spaces.chosen), methods=["POST"]),
            Route(f"{PREFIX}/register-space", for_people(spaces.answered), methods=["POST"]),
            Route(f"{PREFIX}/progress", for_people(spaces.progress), methods=["GET"]),
            Route(f"{PREFIX}/progress", for_people(spaces.ended), methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False
    return app


def is_served(path: str) -> bool:
    """Whether the authorization server answers there."""
    return path.startswith((f"{PREFIX}/", SERVER_METADATA, RESOURCE_METADATA))


def _published(content: dict[str, object]) -> Response:
    return JSONResponse(content, headers={"Cache-Control": f"public, max-age={metadata.CACHED_S}", **CORS})
