"""Access tokens of an organisation's own issuer, which machines send as they are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from explorer.catalog import Catalog, Identity, IdentityBlocked, IdentityRecord, Principal, Scope
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.identity import SignedInPrincipal
from mcp_bridge.sign_in.providers.claims import rights_by
from mcp_bridge.sign_in.providers.issuer import Issuer
from mcp_bridge.sign_in.providers.signed_tokens import Expected, checked, is_for_access, issuer_in
from mcp_bridge.sign_in.settings_file import Issuer as IssuerSettings

# The rights in the catalog are for `explorer people list`; those of a call are its token's.
_WRITTEN_AGAIN_S = 300.0
_MAX_REMEMBERED = 10_000
# Apart from the people who sign in: what a token says is not what their account says.
_KIND = ":tokens"
_MAX_NAME_LENGTH = 200

Rights = dict[str, frozenset[Scope]]


@dataclass(frozen=True)
class TakenIssuer:
    """An issuer whose tokens are taken. `name`: in the settings."""

    name: str
    of: IssuerSettings
    issuer: Issuer


class IssuerTokens:
    """Implements `BearerTokens`."""

    def __init__(self, issuers: Mapping[str, TakenIssuer], catalog: Callable[[], Catalog]) -> None:
        """`issuers`: by the address that is in their tokens."""
        self._issuers, self._calls = issuers, CatalogCalls(catalog)
        self._written: dict[UUID, tuple[float, Rights]] = {}

    async def verify(self, token: str) -> SignedInPrincipal | None:
        """See `BearerTokens`."""
        taken = self._issuers.get(issuer_in(token) or "")
        if taken is None or (accepts := taken.of.tokens) is None:
            return None
        claims = await checked(token, taken.issuer, Expected(accepts.audience, accepts.algorithms, accepts.leeway_s))
        if claims is None or not is_for_access(token, claims, typ_required=accepts.typ_required):
            return None
        found = await self._calls.ask(lambda catalog: self._person(catalog, taken, claims))
        if found is None:
            return None
        record, rights = found
        return SignedInPrincipal(
            Principal(record.principal_id, record.name, rights), record.identity.provider,
            _client(claims, taken.name), None, frozenset(Scope), 0.0,
        )  # fmt: skip

    def _person(
        self, catalog: Catalog, taken: TakenIssuer, claims: Mapping[str, Any]
    ) -> tuple[IdentityRecord, Rights] | None:
        """Who sends the token, and what it gives; None when the operator does not let them in."""
        rights = rights_by(taken.of.rules, claims, frozenset(tenant.key for tenant in catalog.tenants.list()))
        identity = Identity(f"{taken.name}{_KIND}", claims["sub"], _username(taken.of.name, claims))
        record = catalog.identities.by_subject(identity.provider, identity.subject)
        if record is None or (not record.is_blocked and self._is_due(record.principal_id, rights)):
            try:
                record = catalog.identities.sign_in(identity, None, rights, source="claims")
            except IdentityBlocked:
                return None
            if len(self._written) >= _MAX_REMEMBERED:
                self._written.clear()
            self._written[record.principal_id] = (time.monotonic(), rights)
        return None if record.is_blocked else (record, rights)

    def _is_due(self, principal_id: UUID, rights: Rights) -> bool:
        written_at, written = self._written.get(principal_id, (float("-inf"), {}))
        return written != rights or time.monotonic() - written_at > _WRITTEN_AGAIN_S


def _client(claims: Mapping[str, Any], otherwise: str) -> str:
    named = (claims.get(name) for name in ("azp", "client_id", "appid", "cid"))
    return next((name[:_MAX_NAME_LENGTH] for name in named if isinstance(name, str) and name), otherwise)


def _username(claim: str, claims: Mapping[str, Any]) -> str:
    found = claims.get(claim)
    readable = isinstance(found, str) and found.strip() and found.isprintable()
    return str(found if readable else claims["sub"]).strip()[:_MAX_NAME_LENGTH]
