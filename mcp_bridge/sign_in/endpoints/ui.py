"""Is a person's session at the Dagster UI still good? The webserver asks while the person works there."""

from starlette.requests import Request
from starlette.responses import Response

from explorer.catalog import UiSession
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.endpoints.answers import told
from mcp_bridge.sign_in.endpoints.limits import bounded
from mcp_bridge.sign_in.endpoints.parameters import in_form
from mcp_bridge.sign_in.endpoints.senders import sender
from mcp_bridge.sign_in.identity import MembershipCheck

REFUSALS_A_MINUTE = 3000


class UiSessions:
    """`/oauth/introspect` (RFC 7662), for sessions of the UI. Who asks shows nothing but the token, and learns of it alone."""

    def __init__(self, catalog: CatalogCalls, membership: MembershipCheck) -> None:
        self._catalog, self._membership = catalog, membership

    async def introspect(self, request: Request) -> Response:
        """Whose session it is and with which role, by rights that are fresh. Raises: as the endpoints for programs."""
        token = (await in_form(request)).get("token", "")
        session = await self._session(token)
        current = await self._membership.current(session.person) if session is not None else None
        if session is not None and current is not session.person:
            # What the provider was asked meanwhile may have ended it.
            session = await self._session(token)
        if session is None or current is None:
            # All come from the webserver: only what is no session counts, so that strangers do not use up the limit of people.
            await bounded(self._catalog, f"introspect {sender(request)}", REFUSALS_A_MINUTE)
            return told({"active": False})
        return told({"active": True, "username": session.person.principal.name, "scope": session.role.value})

    async def _session(self, token: str) -> UiSession | None:
        return await self._catalog.ask(lambda catalog: catalog.oauth_grants.ui_session(token))
