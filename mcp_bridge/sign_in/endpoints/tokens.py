"""Codes become tokens, tokens are renewed and given back: the endpoints for programs, and their registration."""

import time

from starlette.requests import Request
from starlette.responses import Response

from explorer.catalog import Grant, Issued, Refused, Scope
from mcp_bridge.sign_in.addresses import Addresses
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.clients import ClientDirectory, RegistrationRefused, registered
from mcp_bridge.sign_in.endpoints.answers import CORS, OAuthError, told
from mcp_bridge.sign_in.endpoints.limits import bounded, counted, within
from mcp_bridge.sign_in.endpoints.parameters import basic_client, in_form, in_json
from mcp_bridge.sign_in.endpoints.senders import sender
from mcp_bridge.sign_in.metadata import OFFLINE_ACCESS
from mcp_bridge.sign_in.redirects import host_of

_REGISTRATIONS_A_MINUTE = 20
# Hosts renew the tokens of many people from few addresses, and a program that all use may have thousands of them.
EXCHANGES_A_MINUTE = {"address": 600, "client": 3000}
_REFUSALS = {
    "unknown": ("invalid_grant", "It is unknown, used up or revoked."),
    "expired": ("invalid_grant", "It has expired."),
    "mismatch": ("invalid_grant", "It belongs to another client, address or verifier."),
    "reused": ("invalid_grant", "It was used before. What was granted has ended: sign in again."),
    "scope": ("invalid_scope", "The person has not allowed that."),
}


class TokenEndpoints:
    """`/oauth/token`, `/oauth/revoke` and `/oauth/register`. The methods raise OAuthError, ParametersInvalid and the errors of
    the catalog."""

    def __init__(self, addresses: Addresses, clients: ClientDirectory, catalog: CatalogCalls) -> None:
        self._addresses, self._clients, self._catalog = addresses, clients, catalog

    async def token(self, request: Request) -> Response:
        """Tokens for a code or for a refresh token."""
        form = await in_form(request)
        client_id = await self._client(request, form)
        if "resource" in form and not self._addresses.is_resource(form["resource"]):
            raise OAuthError("invalid_target", f"Tokens are made here for {self._addresses.resource} alone.")
        # Ids of programs are public: what a stranger sends in the name of one does not count, so that it shuts nobody out.
        of_client = f"tokens for client {client_id}", EXCHANGES_A_MINUTE["client"]
        await within(self._catalog, *of_client)
        kind = form.get("grant_type")
        if kind == "authorization_code":
            # What is missing is wrong: any attempt uses the code up.
            code, uri, verifier = (form.get(name, "") for name in ("code", "redirect_uri", "code_verifier"))
            result = await self._catalog.ask(
                lambda catalog: catalog.oauth_grants.exchange(code, client_id, uri, verifier)
            )
        elif kind == "refresh_token":
            token, scopes = form.get("refresh_token", ""), _scopes(form.get("scope"))
            result = await self._catalog.ask(lambda catalog: catalog.oauth_grants.refresh(token, client_id, scopes))
        else:
            raise OAuthError("unsupported_grant_type", "Use authorization_code or refresh_token.")
        if isinstance(result, Refused):
            await self._audit_reuse(result, kind)
            raise OAuthError(*_REFUSALS[result.reason])
        await counted(self._catalog, *of_client)
        return told(_tokens(result))

    async def revoke(self, request: Request) -> Response:
        """End a token of the client's own. The answer does not tell whether there was one."""
        form = await in_form(request)
        client_id, token = await self._client(request, form), form.get("token", "")
        ended = await self._catalog.ask(lambda catalog: catalog.oauth_grants.revoke(token, client_id))
        if ended is not None:
            await self._catalog.audit(ended.name, "grant_revoked", by="client", **_of(ended))
        return Response(status_code=200, headers=CORS)

    async def register(self, request: Request) -> Response:
        """Make a client of what a program says of itself."""
        if not self._clients.policy.registration:
            raise OAuthError("invalid_request", "Programs cannot register themselves here.", 403)
        address = sender(request)
        await bounded(self._catalog, f"register {address}", _REGISTRATIONS_A_MINUTE)
        try:
            wanted = registered(await in_json(request), self._clients.policy)
        except RegistrationRefused as error:
            raise OAuthError(error.error, str(error)) from None
        client = await self._catalog.ask(
            lambda catalog: catalog.oauth_clients.register(wanted.name, wanted.redirect_uris)
        )
        await self._catalog.ask(lambda catalog: catalog.oauth_clients.forget_unused())
        await self._catalog.ask(lambda catalog: catalog.usage.forget_ended())
        await self._catalog.audit(
            client.client_id, "client_registered", name=client.name, address=address,
            redirect_hosts=sorted({host_of(uri) for uri in client.redirect_uris}),
        )  # fmt: skip
        return told(wanted.answer(client.client_id, int(time.time())), 201)

    async def _client(self, request: Request, form: dict[str, str]) -> str:
        await bounded(self._catalog, f"token of address {sender(request)}", EXCHANGES_A_MINUTE["address"])
        client_id = form.get("client_id") or basic_client(request)
        if client_id is None:
            raise OAuthError("invalid_client", "The request names no client_id.", 401)
        if not await self._clients.is_good(client_id):
            raise OAuthError("invalid_client", "This client is not known here. Register again.", 401)
        return client_id

    async def _audit_reuse(self, refused: Refused, kind: str) -> None:
        if refused.grant is not None:
            action = "refresh_reuse" if kind == "refresh_token" else "code_reuse"
            await self._catalog.audit(refused.grant.name, action, "denied", "invalid_grant", **_of(refused.grant))


def _scopes(text: str | None) -> frozenset[Scope] | None:
    names = frozenset((text or "").split()) - {OFFLINE_ACCESS}
    if not names <= frozenset(Scope):
        raise OAuthError(*_REFUSALS["scope"])
    return frozenset(Scope(name) for name in names) or None


def _tokens(issued: Issued) -> dict[str, object]:
    renewed_by = {} if issued.refresh is None else {"refresh_token": issued.refresh}
    return {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": issued.expires_in_s,
        **renewed_by,
        "scope": " ".join(sorted(issued.scopes)),
    }


def _of(grant: Grant) -> dict[str, str]:
    return {"client_id": grant.client_id, "grant": str(grant.id)}
