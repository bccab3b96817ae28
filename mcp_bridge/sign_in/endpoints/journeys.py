"""What do the pages of one sign-in share? The request under way, its browser, the way back to the client, errors for people."""

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from explorer.catalog import Identity, ProviderTokens, SignInRequest
from explorer.core.errors import ExplorerError
from mcp_bridge.sign_in.addresses import Addresses
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.clients import ClientDirectory, ClientRefused
from mcp_bridge.sign_in.clients.documents import DocumentUnusable
from mcp_bridge.sign_in.endpoints.browser import Browser, form_token, is_form_of
from mcp_bridge.sign_in.endpoints.parameters import ParametersInvalid
from mcp_bridge.sign_in.identity import IdentityProvider, Memberships, ProviderUnavailable, UiNotOpen
from mcp_bridge.sign_in.pages import Problem, problem, text
from mcp_bridge.sign_in.redirects import with_parameters

_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The sign-in does not go on: `args[0]` is the page that says why."""

    def __init__(self, page: Response) -> None:
        super().__init__(page)
        self.page = page


@dataclass(frozen=True)
class Journey:
    """A sign-in under way in this browser. `secret`: of the browser's cookie."""

    request: SignInRequest
    secret: str

    @property
    def hidden(self) -> dict[str, str]:
        """The hidden fields of its forms."""
        return {"request": str(self.request.id), "form": form_token(self.secret)}


@dataclass(frozen=True)
class Desk:
    """What the pages need. `providers` by name."""

    addresses: Addresses
    providers: Mapping[str, IdentityProvider]
    clients: ClientDirectory
    catalog: CatalogCalls
    browser: Browser

    async def journey(self, request: Request, id_: str | None) -> Journey:
        """The sign-in with this id. Raises: Stopped: it is not under way in this browser."""
        try:
            parsed = UUID(id_ or "")
        except ValueError:
            raise Stopped(refused("other_browser")) from None
        secret = self.browser.secret_for(request, parsed)
        found = (
            await self.catalog.ask(lambda catalog: catalog.oauth_requests.get(parsed, secret))
            if secret is not None
            else None
        )
        if secret is None or found is None:
            raise Stopped(refused("other_browser"))
        return Journey(found, secret)

    async def posted(self, request: Request, form: Mapping[str, str]) -> Journey:
        """The sign-in whose form was sent, by a person on our own page. Raises: Stopped."""
        origin = request.headers.get("origin")
        if origin is not None and origin != self.addresses.issuer:
            raise Stopped(refused("foreign_form", status=403))
        journey = await self.journey(request, form.get("request"))
        if not is_form_of(form.get("form", ""), journey.secret):
            raise Stopped(refused("foreign_form", status=403))
        return journey

    async def offer(
        self,
        journey: Journey,
        provider: IdentityProvider,
        identity: Identity,
        tokens: ProviderTokens | None,
        memberships: Memberships,
    ) -> None:
        """Keep who the person is and what page 2 shows. Raises: Stopped."""
        secret = {
            "identity": [identity.provider, identity.subject, identity.username],
            "tokens": tokens.dump() if tokens else None,
            "told_at": time.time(),
            "rights": {key: sorted(scopes) for key, scopes in memberships.rights.items()},
            "ui": memberships.ui,
        }
        titles = await self.catalog.ask(
            lambda catalog: {tenant.key: tenant.display_name for tenant in catalog.tenants.list()}
        )
        offered = {
            "username": identity.username,
            "provider": provider.title,
            "tenants": [
                {"key": key, "title": titles[key], "scopes": sorted(scopes)}
                for key, scopes in sorted(memberships.rights.items())
                if scopes and key in titles
            ],
            "unavailable": [asdict(each) for each in memberships.unavailable],
        }
        await self.keep(journey, json.dumps(secret), offered)

    async def keep(self, journey: Journey, secret: str, offered: Mapping[str, Any]) -> None:
        """Keep what belongs to the provider's part, and what page 2 shows. Raises: Stopped."""
        id_, browser = journey.request.id, journey.secret
        if not await self.catalog.ask(lambda catalog: catalog.oauth_requests.offer(id_, browser, secret, offered)):
            raise Stopped(refused("other_browser"))

    async def finish(self, journey: Journey) -> SignInRequest:
        """End the sign-in, once. Raises: Stopped."""
        request, secret = journey.request, journey.secret
        finished = await self.catalog.ask(lambda catalog: catalog.oauth_requests.finish(request.id, secret))
        if finished is None:
            raise Stopped(refused("other_browser"))
        return finished

    async def deny(self, journey: Journey) -> Response:
        """End the sign-in because the person does not want it."""
        return self.to_client(
            await self.finish(journey), error="access_denied", error_description="The person declined."
        )

    def to_client(self, request: SignInRequest, **answer: str) -> Response:
        """Send the browser back to the client. The sign-in must be finished."""
        response = self.answer(request.redirect_uri, request.state, **answer)
        self.browser.forget(response, request.id)
        return response

    def answer(self, redirect_uri: str, state: str | None, **answer: str) -> Response:
        """An answer at a client's address, with who answers (RFC 9207)."""
        return see(with_parameters(redirect_uri, {**answer, "state": state, "iss": self.addresses.issuer}))

    def consent_page(self, journey: Journey) -> str:
        """The address of the first page of a sign-in."""
        return f"{self.addresses.endpoint('consent')}?request={journey.request.id}"

    def connect_page(self, journey: Journey) -> str:
        """The address of its second page."""
        return f"{self.addresses.endpoint('connect')}?request={journey.request.id}"


def see(address: str) -> Response:
    """Send the browser elsewhere, with GET, and leave nothing of this address there."""
    return RedirectResponse(address, 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def refused(name: str, /, *, status: int = 400, again: str | None = None, **values: str) -> Response:
    """The page `errors.<name>`."""
    title, message, step = (text(f"errors.{name}.{part}", **values) for part in ("title", "message", "next_step"))
    return problem(Problem(title, message, step, status, again))


def told(name: str, error: ExplorerError, *, status: int = 400, again: str | None = None) -> Response:
    """The page titled `errors.<name>.title` with an error's own words."""
    return problem(Problem(text(f"errors.{name}.title"), error.message, error.next_step, status, again))


def for_people(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint with its errors as pages."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Stopped as stopped:
            return stopped.page
        except ParametersInvalid as error:
            return refused("request", reason=str(error))
        except UiNotOpen as error:
            return told("ui", error, status=403)
        except (ClientRefused, DocumentUnusable) as error:
            return told("client", error)
        except ProviderUnavailable as error:
            return told("provider", error, status=503)
        except ExplorerError as error:
            # Not for strangers: it may name addresses, folders and settings.
            _log.warning("A sign-in cannot go on: %s [%s]", error.message, error.code)
            return refused("unavailable", status=503)

    return answered
