"""A project space that is no tenant yet: the person asks the operator for it, or registers it and sees its data come in."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from explorer.catalog import CredentialInvalid, Identity, ProviderTokens
from explorer.catalog.lifecycle.provisioning import FOLLOWS
from explorer.core.errors import ExplorerError
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.runs.first_sync import FirstSync, FirstSyncs
from mcp_bridge.sign_in.endpoints.journeys import Desk, Journey, Stopped, refused, see, told
from mcp_bridge.sign_in.endpoints.parameters import in_address, in_form
from mcp_bridge.sign_in.identity import IdentityEnded, RegistrationRefused, SelfService, Unavailable
from mcp_bridge.sign_in.pages import Progress, Register, progress, register, text

# A look at the person's role is one at their server.
_SERVER_S = 40.0
# A first sync may take longer than a sign-in. It is waited for so long, while somebody looks.
_WATCHED_S = 6 * 3600
_FIELD = "field_"


@dataclass(frozen=True)
class Visitor:
    """Who has signed in on this journey, and what they were told of their spaces."""

    identity: Identity
    tokens: ProviderTokens | None
    spaces: Sequence[Unavailable]


class RegisterPages:
    """`/oauth/space` (what page 2's buttons send, and the form) and `/oauth/progress`. `services` by the name of the way to sign
    in."""

    def __init__(self, desk: Desk, services: Mapping[str, SelfService], syncs: FirstSyncs) -> None:
        self._desk, self._services, self._syncs = desk, services, syncs

    async def chosen(self, request: Request) -> Response:
        """A space was chosen on page 2: the wish is noted, or the form is shown to who may register it."""
        form = await in_form(request)
        journey = await self._desk.posted(request, form)
        visitor, service = self._visitor(journey), self._service(journey)
        number = form.get("ask") or form.get("register") or ""
        space = _numbered(visitor.spaces, number)
        if "ask" in form and space.action == "ask":
            await in_thread(service.ask, visitor.identity, space)
            asked = replace(space, action=None, reason=text("connect.asked"))
            await self._note(journey, unavailable=[asdict(asked if each is space else each) for each in visitor.spaces])
            return see(self._desk.connect_page(journey))
        if space.action != "register":
            return see(self._desk.connect_page(journey))
        renewed: list[ProviderTokens] = []
        try:
            await in_thread(service.check, visitor.identity, visitor.tokens, space, renewed.append, within_s=_SERVER_S)
        except (RegistrationRefused, IdentityEnded) as error:
            return await self._refused(journey, visitor, space, error)
        finally:
            await self._renew(journey, renewed)
        return self._form(journey, service, number, space)

    async def answered(self, request: Request) -> Response:
        """The form was sent."""
        form = await in_form(request)
        journey = await self._desk.posted(request, form)
        if form.get("decision") != "register":
            return see(self._desk.connect_page(journey))
        visitor, service = self._visitor(journey), self._service(journey)
        number = form.get("space", "")
        space = _numbered(visitor.spaces, number)
        names = {field.name for field in service.fields}
        values = {name: form[f"{_FIELD}{name}"].strip() for name in names if form.get(f"{_FIELD}{name}", "").strip()}
        follows = form.get("follows", "")
        if follows not in FOLLOWS:
            raise Stopped(refused("request", reason=text("register.unknown_schedule")))
        renewed: list[ProviderTokens] = []
        register_it = partial(service.register, visitor.identity, visitor.tokens, space, values, follows)
        try:
            asked = await in_thread(register_it, renewed.append, within_s=_SERVER_S)
        except CredentialInvalid as error:
            return self._form(journey, service, number, space, error=error)
        except (RegistrationRefused, IdentityEnded) as error:
            return await self._refused(journey, visitor, space, error)
        finally:
            await self._renew(journey, renewed)
        journey = await self._again(journey)
        await self._note(journey, registering={"request": str(asked.id), "space": space.title, "since": time.time()})
        # At once, whether somebody looks or not.
        await self._syncs.look(asked.id)
        return see(self._progress_page(journey))

    async def progress(self, request: Request) -> Response:
        """How far the space is; the page loads itself again until it has ended."""
        journey = await self._desk.journey(request, in_address(request).get("request"))
        under_way = (journey.request.offered or {}).get("registering")
        if under_way is None:
            return see(self._desk.consent_page(journey))
        found = await self._syncs.look(UUID(under_way["request"]))
        if found is None:
            return see(self._desk.connect_page(journey))
        page = progress(
            Progress(
                under_way["space"],
                ((text("progress.made"), found.made), (text("progress.loaded"), found.loaded)),
                _message(found),
                found.is_finished,
                self._desk.addresses.endpoint("progress"),
                journey.hidden,
            )
        )
        if time.time() < under_way["since"] + _WATCHED_S:
            id_, browser = journey.request.id, journey.secret
            await self._desk.catalog.ask(lambda catalog: catalog.oauth_requests.prolong(id_, browser))
            self._desk.browser.keep(page, id_, browser)
        return page

    async def ended(self, request: Request) -> Response:
        """On to page 2, with what the person may do now."""
        journey = await self._desk.posted(request, await in_form(request))
        visitor = self._visitor(journey)
        provider = self._desk.providers[journey.request.provider or ""]
        if visitor.tokens is None:
            return see(self._desk.consent_page(journey))
        kept = [visitor.tokens]
        try:
            memberships = await provider.memberships(visitor.identity, visitor.tokens, kept.append)
        except IdentityEnded as error:
            return told("provider", error, again=self._desk.consent_page(journey))
        await self._desk.offer(journey, provider, visitor.identity, kept[-1], memberships)
        return see(self._desk.connect_page(journey))

    def _service(self, journey: Journey) -> SelfService:
        service = self._services.get(journey.request.provider or "")
        if service is None:
            raise Stopped(refused("unknown_way", status=404))
        return service

    def _visitor(self, journey: Journey) -> Visitor:
        offered = journey.request.offered
        if offered is None:
            raise Stopped(see(self._desk.consent_page(journey)))
        kept = json.loads(journey.request.secret or "{}")
        tokens = ProviderTokens.parse(kept["tokens"]) if kept["tokens"] else None
        return Visitor(Identity(*kept["identity"]), tokens, [Unavailable(**row) for row in offered["unavailable"]])

    async def _refused(
        self, journey: Journey, visitor: Visitor, space: Unavailable, error: RegistrationRefused | IdentityEnded
    ) -> Response:
        who, client_id = visitor.identity, journey.request.client_id
        facts = {"subject": who.subject, "external_id": space.external_id, "client_id": client_id}
        await self._desk.catalog.audit(who.provider, "registration_refused", "denied", error.code, **facts)
        return told("registration", error, again=self._desk.connect_page(journey))

    def _form(
        self,
        journey: Journey,
        service: SelfService,
        number: str,
        space: Unavailable,
        *,
        error: ExplorerError | None = None,
    ) -> Response:
        said = f"{error.message} {error.next_step}" if error is not None else None
        hidden = {**journey.hidden, "space": number}
        action, follows = self._desk.addresses.endpoint("register-space"), list(FOLLOWS)
        return register(Register(space.title, service.fields, follows, action, hidden, said))

    def _progress_page(self, journey: Journey) -> str:
        return f"{self._desk.addresses.endpoint('progress')}?request={journey.request.id}"

    async def _note(self, journey: Journey, **changes: object) -> None:
        """Change what is kept of page 2."""
        await self._desk.keep(journey, journey.request.secret or "{}", {**(journey.request.offered or {}), **changes})

    async def _renew(self, journey: Journey, renewed: Sequence[ProviderTokens]) -> None:
        """Keep tokens that the server has renewed meanwhile: it may have ended the old ones."""
        if renewed:
            kept = {**json.loads(journey.request.secret or "{}"), "tokens": renewed[-1].dump()}
            await self._desk.keep(journey, json.dumps(kept), journey.request.offered or {})

    async def _again(self, journey: Journey) -> Journey:
        """The journey as it is kept now."""
        found = await self._desk.catalog.ask(
            lambda catalog: catalog.oauth_requests.get(journey.request.id, journey.secret)
        )
        if found is None:
            raise Stopped(refused("other_browser"))
        return Journey(found, journey.secret)


def _numbered(spaces: Sequence[Unavailable], number: str) -> Unavailable:
    """The space of a button. Raises: Stopped: no such button was there."""
    if not number.isdecimal() or int(number) >= len(spaces):
        raise Stopped(refused("request", reason=text("register.unknown")))
    return spaces[int(number)]


def _message(found: FirstSync) -> str:
    if found.failure is not None:
        return f"{found.failure.message} {found.failure.next_step}"
    if found.made == "failed":
        return text("progress.stuck")
    return text("progress.not_loaded") if found.loaded == "failed" else ""
