"""People of a provider's server: what they may do here follows from their membership and role there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple
from urllib.parse import urlsplit

from explorer.catalog import Catalog, Decision, Scope, Tenant, TenantRequest
from explorer.catalog.access.principals import PERSON_PREFIX
from explorer.core.errors import ExplorerError, TransientError
from explorer.core.settings import Settings
from explorer.providers.base import (
    PeopleSignIn,
    Provider,
    Role,
    SignedInPerson,
    SignInApp,
    SignInEnded,
)
from mcp_bridge.clients.timeouts import DatabaseTimeout, Threads, in_thread
from mcp_bridge.sign_in.identity import (
    Identity,
    IdentityEnded,
    Keep,
    Memberships,
    ProviderTokens,
    ProviderUnavailable,
    SignedIn,
    SignInFailed,
    Unavailable,
)
from mcp_bridge.sign_in.providers.roles import Roles
from mcp_bridge.sign_in.settings_file import ServerSignIn, SignInSettings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Time of a whole answer of the server, with a renewal of tokens and some pages.
_SERVER_S = 40.0
# Threads that wait for servers of strangers must not be those that databases are asked in.
_THREADS = Threads("threads that ask providers' servers", 40)


@dataclass(frozen=True)
class ServerPeople:
    """An `IdentityProvider` of one server. `name`: in the settings; `server`: its canonical address."""

    name: str
    server: str
    of: ServerSignIn
    file: SignInSettings
    provider: Provider
    people: PeopleSignIn
    roles: Roles
    catalog: Callable[[], Catalog]
    settings: Settings

    @property
    def title(self) -> str:
        return self.of.title or f"{self.provider.title} ({urlsplit(self.server).netloc})"

    @property
    def opens_ui(self) -> bool:
        # A role in one project space says nothing about the others, which the UI shows too.
        return False

    async def authorize_url(self, *, redirect_uri: str, state: str, challenge: str, nonce: str) -> str:
        return self.people.authorize_url(self._app(), redirect_uri=redirect_uri, state=state, challenge=challenge)

    async def sign_in(self, *, code: str, verifier: str, nonce: str, redirect_uri: str) -> SignedIn:
        return await self._asked(self._sign_in, code, verifier, redirect_uri)

    async def memberships(self, identity: Identity, tokens: ProviderTokens, keep: Keep) -> Memberships:
        return await self._asked(self._memberships, identity, tokens, keep)

    def told_role(self, tokens: ProviderTokens, external_id: str, keep: Keep, member: str | None = None) -> Role | None:
        """The person's role in a space, or that of a `member`, by the person's tokens. Blocks. Raises as `memberships`."""
        with self._told_apart():
            return self.people.told_role(
                self._app(), tokens, external_id, settings=self.settings, member=member, keep=keep
            )

    async def _asked(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """`work` in a thread. What cannot be told apart from a failure of the server is one."""
        try:
            return await in_thread(work, *args, within_s=_SERVER_S, limiter=_THREADS.limiter)
        except DatabaseTimeout:
            raise self._unavailable("it does not answer") from None

    def _sign_in(self, code: str, verifier: str, redirect_uri: str) -> SignedIn:
        app = self._app()
        try:
            tokens = self.people.exchange(
                app, code=code, verifier=verifier, redirect_uri=redirect_uri, settings=self.settings
            )
        except TransientError as error:
            raise self._unavailable(error.message) from None
        except ExplorerError as error:
            raise SignInFailed(
                f"{self.title} did not confirm the sign-in: {error.message}",
                next_step="Start again; if it lasts, the operator checks the application registered there.",
            ) from None
        kept = [tokens]
        person = self._look_up(app, tokens, kept.append)
        identity = Identity(self.name, person.subject, person.username)
        memberships = Memberships(*self._rights(identity, person))
        return SignedIn(identity, kept[-1] if self.of.keep_tokens else None, memberships)

    def _memberships(self, identity: Identity, tokens: ProviderTokens, keep: Keep) -> Memberships:
        person = self._look_up(self._app(), tokens, keep)
        if person.subject != identity.subject:
            raise IdentityEnded("The tokens are of somebody else now.", next_step="Sign in again.")
        return Memberships(*self._rights(identity, person))

    def _look_up(self, app: SignInApp, tokens: ProviderTokens, keep: Keep) -> SignedInPerson:
        with self._told_apart():
            return self.people.look_up(app, tokens, settings=self.settings, keep=keep)

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """The end of a sign-in, or a failure of the server."""
        try:
            yield
        except SignInEnded as error:
            raise IdentityEnded(error.message, next_step=error.next_step) from None
        except ExplorerError as error:
            raise self._unavailable(error.message) from None

    def _rights(
        self, identity: Identity, person: SignedInPerson
    ) -> tuple[dict[str, frozenset[Scope]], list[Unavailable]]:
        rights: dict[str, frozenset[Scope]] = {}
        unavailable: list[Unavailable] = []
        registered, requests = self._registered(), self._requests()
        for external_id, title in sorted(person.tenants.items()):
            tenant = registered.get(self.provider.external_id_key(external_id))
            if tenant is None:
                of_it = requests.get(self.provider.external_id_key(external_id), [])
                unavailable.append(self._not_there_yet(identity, external_id, title, of_it))
                continue
            role = self.roles.role(tenant, identity)
            scopes = self._scopes(role)
            if scopes:
                rights[tenant.key] = scopes
            else:
                unavailable.append(Unavailable(title, _why_nothing(role, self.provider.tenant_noun)))
        return rights, unavailable

    def is_open(self, external_id: str) -> bool:
        """Whether administrators of the space may register it here. Blocks."""
        if self.file.self_service == "on":
            return True
        asked = self._requests().get(self.provider.external_id_key(external_id), [])
        return self.file.self_service == "request" and any(each.decision is Decision.APPROVED for each in asked)

    def is_registered(self, external_id: str) -> bool:
        """Whether the space is a tenant by now. Blocks."""
        return self.provider.external_id_key(external_id) in self._registered()

    def _not_there_yet(
        self, identity: Identity, external_id: str, title: str, requests: list[TenantRequest]
    ) -> Unavailable:
        """A space that is no tenant: what became of the wishes for it, and what the person can do."""
        if self.file.self_service == "off":
            return Unavailable(title, "It is not connected here yet. Ask the operator of this installation.")
        if self.file.self_service == "on":
            reason = "It is not connected here yet. One of its administrators can register it."
            return Unavailable(title, reason, external_id, "register")
        if any(each.decision is Decision.APPROVED for each in requests):
            reason = "The operator agrees to have it here. One of its administrators can register it now."
            return Unavailable(title, reason, external_id, "register")
        own = next((each for each in requests if each.actor == actor_of(self.catalog(), identity)), None)
        if own is None:
            return Unavailable(title, "It is not connected here yet.", external_id, "ask")
        if own.decision is Decision.REFUSED:
            said = f": {own.words}" if own.words else "."
            return Unavailable(title, f"The operator does not want to have it here{said}")
        return Unavailable(title, "You have asked for it. The operator has not answered yet.")

    def _requests(self) -> dict[str, list[TenantRequest]]:
        """The wishes for spaces of this server, by the key of their external id."""
        found: dict[str, list[TenantRequest]] = {}
        if self.file.self_service == "request":
            for each in self.catalog().tenant_requests.list(provider=self.provider.name, server=self.server):
                found.setdefault(self.provider.external_id_key(each.external_id), []).append(each)
        return found

    def _registered(self) -> dict[str, Tenant]:
        """The tenants of this server, by the key of their external id."""
        return {
            self.provider.external_id_key(tenant.external_id): tenant
            for tenant in self.catalog().tenants.list()
            if (tenant.provider, tenant.server) == (self.provider.name, self.server)
        }

    def _scopes(self, role: Role | None) -> frozenset[Scope]:
        """What a role gives. Who sees only a part of the data in the server gets nothing: the tables hold all of it."""
        given = self.file.roles
        if role is None:
            return given.reader if self.file.members_without_role == "read" else frozenset()
        if role.is_admin:
            return given.admin
        if not role.sees_all or not (role.may_read or role.may_edit):
            return frozenset()
        return given.editor if role.may_edit else given.reader

    def _app(self) -> SignInApp:
        return SignInApp(self.server, self.of.client_id, self.of.client_secret())

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.title}: {why}", next_step="Try again in a moment.")


def actor_of(catalog: Catalog, identity: Identity) -> str:
    """The person's name in the audit trail, also before they have connected a program."""
    known = catalog.identities.by_subject(identity.provider, identity.subject)
    return known.name if known is not None else f"{PERSON_PREFIX}{identity.provider}:{identity.username}"


def _why_nothing(role: Role | None, noun: str) -> str:
    if role is None:
        return f"Your role there is not known here. Ask the operator to sync the {noun} with its users."
    if not role.sees_all:
        return (
            f"Your role ({role.name}) is limited to some locations, and the tables here hold the whole {noun}. "
            "Ask its administrator for access to all locations."
        )
    return f"Your role ({role.name}) may neither view reports nor edit data. Ask its administrator."
