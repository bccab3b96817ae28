"""Who is calling, and what may they do for which tenants? The bearer token's principal decides, never an argument.

Over HTTP every call carries a token, which is looked up each time. Over stdio one token is verified at the start; without a
token the caller is the operator, who can read HOME's private files anyway. The gate handles audit and errors.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken

from explorer.catalog import Catalog, Principal, Scope, Tenant
from explorer.core.errors import ExplorerError, UnknownTenant
from mcp_bridge.answers.envelope import MAX_ALLOWED_VALUES, did_you_mean
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread

OPERATOR = "operator"
_log = logging.getLogger(__name__)


class TenantRequired(ExplorerError):
    """The caller has several tenants and the call names none."""

    code = "tenant_required"


class ScopeMissing(ExplorerError):
    """The token does not carry the scope that the tool needs."""

    code = "scope_missing"


class TokenInvalid(ExplorerError):
    """The bearer token is unknown, revoked or expired."""

    code = "token_invalid"


class TokenUncheckable(ExplorerError):
    """The bearer token cannot be checked now."""

    code = "catalog_unavailable"


@dataclass(frozen=True)
class Caller:
    """An actor with its grants by tenant key. `grants` None means the operator: all tenants, all scopes."""

    actor: str
    identity: str
    grants: dict[str, frozenset[Scope]] | None

    @classmethod
    def operator(cls) -> "Caller":
        return cls(OPERATOR, OPERATOR, None)

    @classmethod
    def of(cls, principal: Principal) -> "Caller":
        return cls(principal.name, str(principal.id), dict(principal.grants))

    def may_anywhere(self, scope: Scope) -> bool:
        """Whether the caller has this scope for any tenant. Tools that need the scope are listed only then."""
        return self.grants is None or any(scope in scopes for scopes in self.grants.values())

    def scopes(self, tenant_key: str) -> frozenset[Scope]:
        """The caller's scopes for one tenant; empty when the tenant is not one of theirs."""
        return frozenset(Scope) if self.grants is None else self.grants.get(tenant_key, frozenset())

    def tenants(self, catalog: Catalog) -> list[Tenant]:
        """The caller's tenants, by key. Blocks on the database."""
        granted = self.grants
        tenants = [tenant for tenant in catalog.tenants.list() if granted is None or tenant.key in granted]
        return sorted(tenants, key=lambda tenant: tenant.key)

    def tenant(self, catalog: Catalog, key: str | None) -> Tenant:
        """The tenant of a call. Blocks on the database.

        Raises:
            TenantRequired: the call names no tenant and the caller has several.
            UnknownTenant: the tenant is not one of the caller's, whether it exists or not; or the caller has none.
        """
        only = next(iter(self.grants)) if self.grants and len(self.grants) == 1 else None
        wanted = key if key is not None else only
        # Reads one row, however many tenants there are. All are read only when none is named or the named one is not found.
        if wanted is not None and (self.grants is None or wanted in self.grants):
            with suppress(UnknownTenant):
                return catalog.tenants.get(wanted)
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
        if scope not in self.scopes(tenant_key):
            raise ScopeMissing(
                f"This token may not do that for {tenant_key}: it lacks the scope {scope.value}.",
                next_step="Ask the operator for a token with that scope (`explorer tokens create --scope`).",
            )


class BridgeToken(AccessToken):
    """A verified token with its principal."""

    caller: Caller


class CatalogVerifier:
    """The SDK's TokenVerifier over the catalog's principals. It is called for each HTTP request."""

    def __init__(self, catalog: Callable[[], Catalog], resource: str) -> None:
        self._catalog = catalog
        self._resource = resource

    async def verify_token(self, token: str) -> AccessToken | None:
        """The caller of a token; None when the token is not valid (the response is then 401).

        Raises:
            TokenUncheckable: the catalog cannot be read. The cause is only logged, because the sender is unknown.
        """
        try:
            principal = await in_thread(lambda: self._catalog().principals.verify(token), within_s=CATALOG_S)
        except ExplorerError as error:
            _log.warning("No token can be checked: %s [%s]", error.message, error.code)
            raise TokenUncheckable(
                "The bridge cannot check tokens at present: its catalog does not answer.",
                next_step="Try again in a moment; if it lasts, tell the operator (`explorer status`, `explorer doctor`).",
            ) from None
        if principal is None:
            return None
        caller = Caller.of(principal)
        # Tokens are made only for this bridge, so its own address is their audience.
        return BridgeToken(token=token, client_id=caller.identity, scopes=[], resource=self._resource, caller=caller)


def http_caller() -> Caller:
    """The caller of the HTTP request being served."""
    token = get_access_token()
    if not isinstance(token, BridgeToken):
        raise TokenInvalid("The call carries no valid bearer token.", next_step="Send Authorization: Bearer <token>.")
    return token.caller


def stdio_caller(catalog: Callable[[], Catalog], token: str | None) -> Callable[[], Caller]:
    """The caller over stdio: the token's principal, looked up again on each call, or the operator when there is no token.

    Raises:
        TokenInvalid: at once, when the token is not valid.
    """
    if token is None:
        return Caller.operator

    def caller() -> Caller:
        principal = catalog().principals.verify(token)
        if principal is None:
            raise TokenInvalid(
                "EXPLORER_TOKEN is unknown, revoked or expired.", next_step="Make one with `explorer tokens create`."
            )
        return Caller.of(principal)

    caller()
    return caller
