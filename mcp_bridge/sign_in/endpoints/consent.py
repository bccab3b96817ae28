"""The way to the identity provider: a client asks, the person agrees, and only then the browser leaves."""

import json
import re
import secrets

from starlette.requests import Request
from starlette.responses import Response

from explorer.catalog import OAuthClient, Scope, SignInRequest
from explorer.catalog.access.oauth_grants import s256
from explorer.contract.headers import UI_CLIENT
from explorer.core.toolsets import Toolset
from mcp_bridge.sign_in.endpoints.journeys import Desk, Journey, Stopped, refused, see
from mcp_bridge.sign_in.endpoints.parameters import in_address, in_form
from mcp_bridge.sign_in.endpoints.senders import sender
from mcp_bridge.sign_in.identity import UiNotOpen
from mcp_bridge.sign_in.metadata import DEFAULT_SCOPES
from mcp_bridge.sign_in.pages import Consent, OpenUi, consent, open_ui
from mcp_bridge.sign_in.redirects import is_registered

_SIGN_INS_A_MINUTE = 60
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_STATE = 4096
_SECRET_BYTES = 32


class ConsentPages:
    """`/oauth/authorize` and `/oauth/consent`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def authorize(self, request: Request) -> Response:
        """Begin a sign-in: page 1, or an answer to the client when it asks for something impossible. Nothing is sent to an
        address that is not the client's."""
        desk, address = self._desk, sender(request)
        wait_s = await desk.catalog.ask(
            lambda catalog: catalog.rates.take(f"authorize {address}", _SIGN_INS_A_MINUTE, 60)
        )
        if wait_s:
            return refused("busy", status=429)
        asked = in_address(request)
        client = await desk.clients.find(_needed(asked, "client_id"))
        redirect_uri = _redirect_uri(asked, client)
        state = asked.get("state")
        if (fault := self._fault(asked)) is not None:
            error, description = fault
            return desk.answer(redirect_uri, state, error=error, error_description=description)
        is_ui, secret = client.client_id == UI_CLIENT, desk.browser.new_secret()
        if is_ui and not any(provider.opens_ui for provider in desk.providers.values()):
            raise UiNotOpen(
                "No identity provider opens the Dagster UI here.",
                next_step="Run `explorer ui` on the machine of the platform, or ask the operator.",
            )
        scopes = [] if is_ui else _scopes(asked.get("scope", ""))
        id_ = await desk.catalog.ask(
            lambda catalog: catalog.oauth_requests.begin(
                client.client_id, redirect_uri, state, scopes, asked["code_challenge"], secret
            )
        )
        begun = SignInRequest(id_, client.client_id, redirect_uri, state, frozenset(scopes), asked["code_challenge"])
        page = self._page(client, Journey(begun, secret))
        desk.browser.remember(request, page, id_, secret)
        return page

    async def again(self, request: Request) -> Response:
        """Page 1 of a sign-in that is under way."""
        journey = await self._desk.journey(request, in_address(request).get("request"))
        return self._page(await self._desk.clients.find(journey.request.client_id), journey)

    async def answered(self, request: Request) -> Response:
        """The person's answer to page 1: away to the identity provider, or back to the client."""
        form = await in_form(request)
        journey = await self._desk.posted(request, form)
        if form.get("decision") == "deny":
            return await self._desk.deny(journey)
        provider = self._desk.providers.get(form.get("provider", ""))
        if provider is None or (journey.request.client_id == UI_CLIENT and not provider.opens_ui):
            return refused("unknown_way")
        # The operator may have blocked it meanwhile.
        await self._desk.clients.find(journey.request.client_id)
        id_, browser = journey.request.id, journey.secret
        state = f"{id_.hex}.{secrets.token_urlsafe(_SECRET_BYTES)}"
        verifier, nonce = (secrets.token_urlsafe(_SECRET_BYTES) for _ in range(2))
        secret = json.dumps({"verifier": verifier, "nonce": nonce})
        chosen = [toolset for toolset in Toolset if f"toolset_{toolset}" in form]
        is_held = await self._desk.catalog.ask(
            lambda catalog: catalog.oauth_requests.leave_for(id_, browser, provider.name, state, secret, chosen)
        )
        if not is_held:
            return refused("other_browser")
        callback = self._desk.addresses.endpoint(f"callback/{provider.name}")
        return see(
            await provider.authorize_url(redirect_uri=callback, state=state, challenge=s256(verifier), nonce=nonce)
        )

    def _page(self, client: OAuthClient, journey: Journey) -> Response:
        if client.client_id == UI_CLIENT:
            opening = [(name, each.title) for name, each in self._desk.providers.items() if each.opens_ui]
            return open_ui(OpenUi(opening, self._desk.addresses.endpoint("consent"), journey.hidden))
        return consent(
            Consent(
                self._desk.clients.shown(client, journey.request.redirect_uri),
                [scope for scope in Scope if scope in journey.request.scopes],
                [(name, provider.title) for name, provider in self._desk.providers.items()],
                list(Toolset),
                self._desk.addresses.endpoint("consent"),
                journey.hidden,
            )
        )

    def _fault(self, asked: dict[str, str]) -> tuple[str, str] | None:
        """What is wrong with the request, for the client: OAuth's code and a description."""
        if "request" in asked or "request_uri" in asked:
            return "request_not_supported", "Send the parameters themselves."
        if asked.get("response_type") != "code":
            return "unsupported_response_type", "response_type must be code."
        if asked.get("response_mode", "query") != "query":
            return "invalid_request", "response_mode must be query."
        if asked.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(asked.get("code_challenge", "")):
            return "invalid_request", "PKCE is needed: code_challenge with code_challenge_method=S256."
        if "resource" in asked and not self._desk.addresses.is_resource(asked["resource"]):
            return "invalid_target", f"The only resource here is {self._desk.addresses.resource}."
        if len(asked.get("state", "")) > _MAX_STATE:
            return "invalid_request", f"state has more than {_MAX_STATE} characters."
        return None


def _needed(asked: dict[str, str], name: str) -> str:
    if name not in asked:
        raise Stopped(refused("request", reason=f"{name} is missing."))
    return asked[name]


def _redirect_uri(asked: dict[str, str], client: OAuthClient) -> str:
    """The address for the answer. Raises: Stopped: it is not the client's."""
    if "redirect_uri" not in asked and len(client.redirect_uris) == 1:
        return client.redirect_uris[0]
    uri = _needed(asked, "redirect_uri")
    if not is_registered(uri, client.redirect_uris):
        raise Stopped(refused("redirect"))
    return uri


def _scopes(text: str) -> list[Scope]:
    """The known scopes that were asked for; the default ones when there is none."""
    names = text.split()
    return [scope for scope in Scope if scope in names] or list(DEFAULT_SCOPES)
