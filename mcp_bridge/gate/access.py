"""Who is calling, and what may they do for which tenants? The bearer token's principal decides, never an argument.

Over HTTP every call carries a token, which is looked up each time. Over stdio one token is verified at the start; without a
token the caller is the operator, who can read HOME's private files anyway. The gate handles audit and errors.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken

from explorer.catalog import (
    DEFAULT_SCOPES,
    OPERATOR,
    Admission,
    AdmittedTenant,
    AsyncCatalog,
    Catalog,
    PersonAdmission,
    Scope,
    SignedInPrincipal,
    Standing,
    Tenant,
)
from explorer.catalog.access.oauth_grants import ACCESS_PREFIX
from explorer.catalog.access.principals import TOKEN_PREFIX
from explorer.core.errors import ExplorerError, UnknownTenant
from explorer.core.toolsets import Toolset
from mcp_bridge.answers.envelope import MAX_ALLOWED_VALUES, did_you_mean
from mcp_bridge.sign_in.identity import BearerTokens, MembershipCheck, ProviderUnavailable

_log = logging.getLogger(__name__)


class TenantRequired(ExplorerError):
    """The caller has several tenants and the call names none."""

    code = "tenant_required"


class ScopeMissing(ExplorerError):
    """The token does not carry the scope that the tool needs."""

    code = "scope_missing"


class ToolsetOff(ExplorerError):
    """The tool is in a toolset that the caller has not turned on."""

    code = "toolset_off"


class TokenInvalid(ExplorerError):
    """The bearer token is unknown, revoked or expired."""

    code = "token_invalid"


class TokenUncheckable(ExplorerError):
    """The bearer token cannot be checked now."""

    code = "catalog_unavailable"


@dataclass(frozen=True)
class Caller:
    """An actor with its grants by tenant key. `grants` None means the operator: all tenants, all scopes.

    `withheld`: scopes that a person has but did not allow this client, by tenant key; they can still do so. `audit`: facts
    about the caller for the audit trail. `toolsets`: that the token or the person turned on. `admitted`: tenants that were read
    together with the token, by key; `standings`: the same for budgets, each for one call.
    """

    actor: str
    identity: str
    grants: dict[str, frozenset[Scope]] | None
    withheld: Mapping[str, frozenset[Scope]] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    toolsets: frozenset[Toolset] = frozenset()
    admitted: Mapping[str, AdmittedTenant] = field(default_factory=dict, repr=False)
    standings: dict[str, Standing] = field(default_factory=dict, repr=False)

    @classmethod
    def operator(cls) -> "Caller":
        return cls(OPERATOR, OPERATOR, None)

    @classmethod
    def of(cls, admission: Admission) -> "Caller":
        principal = admission.principal
        return cls(
            principal.name,
            str(principal.id),
            dict(principal.grants),
            toolsets=principal.toolsets,
            admitted=admission.tenants,
            standings=admission.standings,
        )

    @classmethod
    def of_person(cls, signed_in: SignedInPrincipal, admission: PersonAdmission | None = None) -> "Caller":
        """A program that acts for a person: it may do what the person may and has allowed it. `admission`: where the rights are
        those that came with the token."""
        principal, allowed = signed_in.principal, signed_in.scopes
        audit = {"client_id": signed_in.client_id}
        if signed_in.grant_id is not None:
            audit["grant"] = str(signed_in.grant_id)
        return cls(
            principal.name,
            str(principal.id),
            {key: scopes & allowed for key, scopes in principal.grants.items()},
            {key: scopes - allowed for key, scopes in principal.grants.items() if scopes - allowed},
            audit,
            signed_in.toolsets,
            admission.tenants if admission is not None else {},
            admission.standings if admission is not None else {},
        )

    def may_anywhere(self, scope: Scope) -> bool:
        """Whether the caller has this scope for any tenant, or could have it: a tool that is not listed is never called, and only
        a call makes the host ask the person. Tools that need the scope are listed only then."""
        if self.grants is None:
            return True
        return any(scope in scopes for granted in (self.grants, self.withheld) for scopes in granted.values())

    def has_named(self, scope: Scope) -> bool:
        """Whether the caller holds, for any tenant, a scope that is granted only by name: then it wants what the scope is for."""
        return scope not in DEFAULT_SCOPES and any(scope in scopes for scopes in (self.grants or {}).values())

    def refuse_hidden(self, tool: str, toolset: Toolset) -> NoReturn:
        """Raises: ToolsetOff."""
        if "client_id" in self.audit:
            next_step = f'Connect again in the program, and choose "{toolset}" under "More tools" on the page where you sign in.'
        else:
            next_step = (
                f"Ask the operator for a token with it (`explorer tokens create --toolsets {toolset}`), or to set "
                f"EXPLORER_BRIDGE_TOOLSETS={toolset} at the bridge."
            )
        raise ToolsetOff(
            f"{tool} is in the toolset {toolset}, which is not turned on for you.",
            next_step=next_step,
            details={"toolset": toolset},
        )

    def scopes(self, tenant_key: str) -> frozenset[Scope]:
        """The caller's scopes for one tenant; empty when the tenant is not one of theirs."""
        return frozenset(Scope) if self.grants is None else self.grants.get(tenant_key, frozenset())

    def tenants(self, catalog: Catalog) -> list[Tenant]:
        """The caller's tenants, by key. Blocks on the database."""
        granted = self.grants
        tenants = [tenant for tenant in catalog.tenants.list() if granted is None or tenant.key in granted]
        return sorted(tenants, key=lambda tenant: tenant.key)

    async def known_tenant(self, calls: AsyncCatalog, key: str | None) -> AdmittedTenant | None:
        """The tenant of a call, when its key says which one it is and it is one of the caller's. Reads one row at most, however
        many tenants there are."""
        only = next(iter(self.grants)) if self.grants and len(self.grants) == 1 else None
        wanted = key if key is not None else only
        if wanted is None or (self.grants is not None and wanted not in self.grants):
            return None
        return self.admitted.get(wanted) or await calls.tenant(wanted)

    def tenant(self, catalog: Catalog, key: str | None) -> Tenant:
        """The tenant of a call. Blocks on the database.

        Raises:
            TenantRequired: the call names no tenant and the caller has several.
            UnknownTenant: the tenant is not one of the caller's, whether it exists or not; or the caller has none.
        """
        own = self.tenants(catalog)
        if key is None and len(own) == 1:
            return own[0]
        keys = [tenant.key for tenant in own]
        if key is None and own:
            raise TenantRequired(
                f"This token is good for {len(own)} tenants: the call must name one.",
                next_step="Pass `tenant`; list_tenants shows them all.",
                details={"allowed": keys[:MAX_ALLOWED_VALUES]},
            )
        if key is None:
            raise UnknownTenant(
                "No tenant exists that this caller may use.",
                next_step="An operator adds one with `explorer tenants add`.",
            )
        if key not in keys:
            near = did_you_mean(key, keys)
            raise UnknownTenant(
                f"There is no tenant {key[:80]!r}.",
                next_step=f"{f'Did you mean {near[0]}? ' if near else ''}list_tenants shows yours.",
                details={"did_you_mean": near} if near else {"allowed": keys[:MAX_ALLOWED_VALUES]},
            )
        return own[keys.index(key)]

    def require(self, scope: Scope, tenant_key: str) -> None:
        """Raises: ScopeMissing."""
        if scope in self.scopes(tenant_key):
            return
        if scope in self.withheld.get(tenant_key, ()):
            raise ScopeMissing(
                f"You may do that for {tenant_key}, but have not allowed this program to: it lacks the scope {scope.value}.",
                next_step="Connect again in the program and allow it.",
            )
        if "client_id" in self.audit:
            raise ScopeMissing(
                f"Your role does not allow that for {tenant_key}: it needs the scope {scope.value}.",
                next_step="Ask an administrator of the project space, or the operator.",
            )
        raise ScopeMissing(
            f"This token may not do that for {tenant_key}: it lacks the scope {scope.value}.",
            next_step="Ask the operator for a token with that scope (`explorer tokens create --scope`).",
        )


class BridgeToken(AccessToken):
    """A verified token with its principal."""

    caller: Caller


@dataclass(frozen=True)
class PeopleSignIn:
    """What the verifier needs for people. `issuer`: of their tokens; `jwt`: takes tokens of an organisation's own provider."""

    issuer: str
    membership: MembershipCheck
    jwt: BearerTokens | None = None


class CatalogVerifier:
    """The SDK's TokenVerifier over the catalog's principals. It is called for each HTTP request."""

    def __init__(
        self,
        calls: Callable[[], Awaitable[AsyncCatalog]],
        resource: str,
        people: PeopleSignIn | None = None,
    ) -> None:
        self._calls = calls
        self._resource = resource
        self._people = people

    async def verify_token(self, token: str) -> AccessToken | None:
        """The caller of a token; None when the token is not valid (the response is then 401).

        Raises:
            TokenUncheckable: the catalog cannot be read, or nobody can tell what the person may do now. The cause is only
                logged, because the sender is unknown.
        """
        try:
            if self._people is not None and not token.startswith(TOKEN_PREFIX):
                return await self._of_person(token, self._people)
            admission = await (await self._calls()).admission(token)
        except ProviderUnavailable as error:
            _log.warning("What a person may do is unknown: %s [%s]", error.message, error.code)
            raise TokenUncheckable(
                "Nobody can tell at present what you may do: the server where you signed in does not answer.",
                next_step="Try again in a moment; if it lasts, tell the operator.",
            ) from None
        except ExplorerError as error:
            _log.warning("No token can be checked: %s [%s]", error.message, error.code)
            raise TokenUncheckable(
                "The bridge cannot check tokens at present: its catalog does not answer.",
                next_step="Try again in a moment; if it lasts, tell the operator (`explorer status`, `explorer doctor`).",
            ) from None
        if admission is None:
            return None
        caller = Caller.of(admission)
        # Tokens are made only for this bridge, so its own address is their audience.
        return BridgeToken(token=token, client_id=caller.identity, scopes=[], resource=self._resource, caller=caller)

    async def _of_person(self, token: str, people: PeopleSignIn) -> BridgeToken | None:
        admission = None
        if token.startswith(ACCESS_PREFIX):
            admission = await (await self._calls()).person(token)
            found = admission.signed_in if admission is not None else None
            signed_in = await people.membership.current(found) if found is not None else None
            if signed_in is not found:
                # The rights were renewed meanwhile, and what came with the token is older.
                admission = None
        else:
            signed_in = await people.jwt.verify(token) if people.jwt is not None else None
        if signed_in is None:
            return None
        # Sessions belong to client, issuer and subject, which stay the same when tokens are renewed.
        return BridgeToken(
            token=token,
            client_id=signed_in.client_id,
            subject=str(signed_in.principal.id),
            claims={"iss": people.issuer},
            scopes=sorted(signed_in.scopes),
            resource=self._resource,
            caller=Caller.of_person(signed_in, admission),
        )


async def http_caller() -> Caller:
    """The caller of the HTTP request being served."""
    token = get_access_token()
    if not isinstance(token, BridgeToken):
        raise TokenInvalid("The call carries no valid bearer token.", next_step="Send Authorization: Bearer <token>.")
    return token.caller


def bearer() -> str:
    """The token of the HTTP request being served. Raises: TokenInvalid."""
    token = get_access_token()
    if token is None:
        raise TokenInvalid("The call carries no bearer token.", next_step="Send Authorization: Bearer <token>.")
    return token.token


def stdio_caller(calls: Callable[[], Awaitable[AsyncCatalog]], token: str | None) -> Callable[[], Awaitable[Caller]]:
    """The caller over stdio: the token's principal, looked up again on each call, or the operator when there is no token."""

    async def caller() -> Caller:
        if token is None:
            return Caller.operator()
        admission = await (await calls()).admission(token)
        if admission is None:
            raise TokenInvalid(
                "EXPLORER_TOKEN is unknown, revoked or expired.", next_step="Make one with `explorer tokens create`."
            )
        return Caller.of(admission)

    return caller
