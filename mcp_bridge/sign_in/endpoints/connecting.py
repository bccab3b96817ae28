"""The way back from the identity provider: who signed in, what they may do, and a code for the client."""

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from explorer.catalog import Catalog, Identity, IdentityBlocked, ProviderTokens, Scope, SignInRequest, UiRole
from explorer.catalog.access.oauth_grants import GRANT_S, UNCHECKED_GRANT_S
from explorer.contract.headers import UI_CLIENT
from explorer.core.errors import ExplorerError
from mcp_bridge.sign_in.endpoints.journeys import Desk, Journey, Stopped, refused, see, told
from mcp_bridge.sign_in.endpoints.parameters import in_address, in_form
from mcp_bridge.sign_in.identity import (
    IdentityEnded,
    IdentityProvider,
    SignedIn,
    SignInFailed,
    UiNotOpen,
    Unavailable,
)
from mcp_bridge.sign_in.pages import Connect, TenantShown, connect


class ConnectPages:
    """`/oauth/callback/<provider>` and `/oauth/connect`."""

    def __init__(self, desk: Desk, ui_session_s: int) -> None:
        self._desk, self._ui_session_s = desk, ui_session_s

    async def callback(self, request: Request) -> Response:
        """The identity provider's answer. Only in the browser that left for it, and only once."""
        desk, provider = self._desk, self._desk.providers.get(request.path_params["provider"])
        if provider is None:
            return refused("unknown_way", status=404)
        answer = in_address(request)
        journey = await self._returned(request, provider, answer.get("state", ""))
        if "code" not in answer:
            if answer.get("error") == "access_denied":
                return await desk.deny(journey)
            error = SignInFailed(
                f"{provider.title} did not let you in ({answer.get('error', 'without a reason')[:80]}).",
                next_step="Try again, or ask those who run it.",
            )
            return await self._not_in(journey, provider, error)
        secret = json.loads(journey.request.secret or "{}")
        try:
            signed_in = await provider.sign_in(
                code=answer["code"],
                verifier=secret["verifier"],
                nonce=secret["nonce"],
                redirect_uri=desk.addresses.endpoint(f"callback/{provider.name}"),
            )
            await self._refuse_blocked(signed_in.identity)
        except (SignInFailed, IdentityEnded, IdentityBlocked) as error:
            return await self._not_in(journey, provider, error)
        if journey.request.client_id == UI_CLIENT:
            return await self._into_ui(journey, provider, signed_in)
        await desk.offer(journey, provider, signed_in.identity, signed_in.tokens, signed_in.memberships)
        return see(desk.connect_page(journey))

    async def page(self, request: Request) -> Response:
        """Page 2."""
        journey = await self._desk.journey(request, in_address(request).get("request"))
        if journey.request.offered is None:
            return see(self._desk.consent_page(journey))
        return await self._page(journey, journey.request.offered)

    async def answered(self, request: Request) -> Response:
        """The person's answer to page 2."""
        form = await in_form(request)
        journey = await self._desk.posted(request, form)
        decision = form.get("decision")
        if decision == "deny":
            return await self._desk.deny(journey)
        if decision != "connect" or journey.request.offered is None:
            return see(self._desk.consent_page(journey))
        if not journey.request.offered["tenants"]:
            return refused("nothing_to_connect", again=self._desk.consent_page(journey))
        # The operator may have blocked it meanwhile.
        await self._desk.clients.find(journey.request.client_id)
        return await self._connected(await self._desk.finish(journey))

    async def _into_ui(self, journey: Journey, provider: IdentityProvider, signed_in: SignedIn) -> Response:
        """Open the Dagster UI to the person, if one of their claims does. Raises: Stopped."""
        told_of, role = signed_in.memberships, signed_in.memberships.ui
        if role is None:
            error = UiNotOpen(
                f"{signed_in.identity.username} is signed in, but the Dagster UI is not open to your groups or roles.",
                next_step="Ask the operator of this installation.",
            )
            return await self._not_in(journey, provider, error, "ui")
        request = await self._desk.finish(journey)
        lasts_s = min(self._ui_session_s, GRANT_S if signed_in.tokens else UNCHECKED_GRANT_S)

        def grant(catalog: Catalog) -> tuple[str, UUID, str]:
            person = catalog.identities.sign_in(signed_in.identity, signed_in.tokens, told_of.rights, ui=role)
            id_, code = catalog.oauth_grants.issue_code(
                person.principal_id, UI_CLIENT, [role], request.redirect_uri, request.challenge, lifetime_s=lasts_s
            )
            return person.name, id_, code

        name, grant_id, code = await self._desk.catalog.ask(grant)
        await self._desk.catalog.audit(name, "sign_in", client_id=UI_CLIENT, grant=str(grant_id), role=role.value)
        return self._desk.to_client(request, code=code)

    async def _returned(self, request: Request, provider: IdentityProvider, state: str) -> Journey:
        """The sign-in that left with this state. Raises: Stopped."""
        try:
            id_ = UUID(state.partition(".")[0])
        except ValueError:
            raise Stopped(refused("other_browser")) from None
        secret = self._desk.browser.secret_for(request, id_)
        if secret is None:
            raise Stopped(refused("other_browser"))
        found = await self._desk.catalog.ask(
            lambda catalog: catalog.oauth_requests.return_from(provider.name, state, secret)
        )
        if found is None:
            raise Stopped(refused("other_browser"))
        return Journey(found, secret)

    async def _refuse_blocked(self, identity: Identity) -> None:
        known = await self._desk.catalog.ask(
            lambda catalog: catalog.identities.by_subject(identity.provider, identity.subject)
        )
        if known is not None and known.is_blocked:
            raise IdentityBlocked(
                "The operator of this installation does not let this account in.", next_step="Ask the operator."
            )

    async def _not_in(
        self, journey: Journey, provider: IdentityProvider, error: ExplorerError, page: str = "provider"
    ) -> Response:
        await self._desk.catalog.audit(
            provider.name, "sign_in_refused", "denied", error.code, client_id=journey.request.client_id
        )
        return told(page, error, again=self._desk.consent_page(journey))

    async def _page(self, journey: Journey, offered: Mapping[str, Any]) -> Response:
        request = journey.request
        client = await self._desk.clients.find(request.client_id)
        return connect(
            Connect(
                self._desk.clients.shown(client, request.redirect_uri),
                offered["username"],
                offered["provider"],
                [
                    TenantShown(row["title"], row["key"], _both(row["scopes"], request.scopes))
                    for row in offered["tenants"]
                ],
                [Unavailable(**row) for row in offered["unavailable"]],
                self._desk.addresses.endpoint("connect"),
                self._desk.addresses.endpoint("space"),
                journey.hidden,
            )
        )

    async def _connected(self, request: SignInRequest) -> Response:
        """Record the person and the grant, and give the client its code."""
        kept = json.loads(request.secret or "{}")
        identity = Identity(*kept["identity"])
        tokens = ProviderTokens.parse(kept["tokens"]) if kept["tokens"] else None
        rights = {key: frozenset(Scope(name) for name in names) for key, names in kept["rights"].items()}
        ui = UiRole(kept["ui"]) if kept["ui"] else None

        def grant(catalog: Catalog) -> tuple[str, UUID, str]:
            age_s = max(0.0, time.time() - kept["told_at"])
            person = catalog.identities.sign_in(identity, tokens, rights, ui=ui, checked_age_s=age_s)
            id_, code = catalog.oauth_grants.issue_code(
                person.principal_id, request.client_id, request.scopes, request.redirect_uri, request.challenge,
                lifetime_s=GRANT_S if tokens else UNCHECKED_GRANT_S, toolsets=request.toolsets,
            )  # fmt: skip
            return person.name, id_, code

        name, grant_id, code = await self._desk.catalog.ask(grant)
        await self._desk.catalog.audit(
            name, "sign_in", client_id=request.client_id, grant=str(grant_id), scopes=sorted(request.scopes)
        )
        return self._desk.to_client(request, code=code)


def _both(rights: list[str], asked: frozenset[Scope]) -> list[Scope]:
    return [scope for scope in Scope if scope in rights and scope in asked]
