"""People of an organisation's OpenID provider: what they may do here follows from the claims about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
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
from mcp_bridge.sign_in.providers.claims import are_left_out, rights_by, ui_role_by
from mcp_bridge.sign_in.providers.issuer import Issuer
from mcp_bridge.sign_in.providers.signed_tokens import Expected, checked
from mcp_bridge.sign_in.settings_file import Issuer as IssuerSettings
from mcp_bridge.sign_in.settings_file import IssuerSignIn

_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
_LEEWAY_S = 60
_MAX_NAME_LENGTH = 200


@dataclass(frozen=True)
class OpenIdPeople:
    """An `IdentityProvider` of one issuer. `name`: in the settings."""

    name: str
    of: IssuerSettings
    sign_in_as: IssuerSignIn
    issuer: Issuer
    calls: CatalogCalls

    @property
    def title(self) -> str:
        return self.of.title or self.name

    @property
    def opens_ui(self) -> bool:
        return any(rule.ui is not None for rule in self.of.rules)

    async def authorize_url(self, *, redirect_uri: str, state: str, challenge: str, nonce: str) -> str:
        params = {
            "response_type": "code",
            "client_id": self.sign_in_as.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.sign_in_as.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if self.sign_in_as.hosted_domain:
            params["hd"] = self.sign_in_as.hosted_domain
        address = await self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(params)}"

    async def sign_in(self, *, code: str, verifier: str, nonce: str, redirect_uri: str) -> SignedIn:
        answer = await self._tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            }
        )
        if isinstance(answer, str):
            raise SignInFailed(
                f"{self.title} did not confirm the sign-in ({answer}).",
                next_step="Start again; if it lasts, the operator checks the application registered there.",
            )
        claims = await self._proven(answer.get("id_token"))
        if claims is None or not compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise SignInFailed(
                f"What {self.title} says about you cannot be trusted: its ID token is not valid for this sign-in.",
                next_step="Start again; if it lasts, the operator checks issuer and client_id in the sign-in file.",
            )
        hosted = self.sign_in_as.hosted_domain
        if hosted is not None and claims.get("hd") != hosted:
            raise SignInFailed(
                f"Only accounts of {hosted} are let in here.", next_step=f"Sign in with your account of {hosted}."
            )
        identity = Identity(self.name, claims["sub"], self._username(claims))
        return SignedIn(identity, _kept(answer), await self._memberships(claims))

    async def memberships(self, identity: Identity, tokens: ProviderTokens, keep: Keep) -> Memberships:
        if tokens.refresh is None:
            raise IdentityEnded("No tokens of this person are kept.", next_step="Sign in again.")
        answer = await self._tokens({"grant_type": "refresh_token", "refresh_token": tokens.refresh})
        if answer == "invalid_grant":
            raise IdentityEnded(f"{self.title} does not accept this sign-in any more.", next_step="Sign in again.")
        if isinstance(answer, str):
            raise self._unavailable(f"it refuses to renew ({answer})")
        if (renewed := _kept({"refresh_token": tokens.refresh, **answer})) is not None:
            await in_thread(keep, renewed, within_s=CATALOG_S)
        claims = await self._claims_again(answer)
        if claims.get("sub") != identity.subject:
            raise IdentityEnded("The tokens are of somebody else now.", next_step="Sign in again.")
        return await self._memberships(claims)

    async def _claims_again(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the issuer says now: in a new ID token, else at its userinfo endpoint."""
        if answer.get("id_token") is not None:
            claims = await self._proven(answer["id_token"])
            if claims is None:
                raise self._unavailable("its new ID token is not valid")
            return claims
        status, found = await self.issuer.request(
            "GET",
            await self._endpoint("userinfo_endpoint"),
            headers={"Authorization": f"Bearer {answer.get('access_token')}"},
        )
        if status != httpx.codes.OK or not isinstance(found, dict):
            raise self._unavailable(f"its userinfo endpoint answers {status}")
        return found

    async def _proven(self, token: Any) -> Mapping[str, Any] | None:
        """The claims of an ID token for this application."""
        if not isinstance(token, str):
            return None
        client_id = self.sign_in_as.client_id
        claims = await checked(token, self.issuer, Expected((client_id,), _ALGORITHMS, _LEEWAY_S))
        if claims is None:
            return None
        # With several audiences, it must have been issued to us.
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        return claims if claims.get("azp", None if several else client_id) == client_id else None

    async def _memberships(self, claims: Mapping[str, Any]) -> Memberships:
        keys = await self.calls.ask(lambda catalog: frozenset(tenant.key for tenant in catalog.tenants.list()))
        rights = rights_by(self.of.rules, claims, keys)
        missing: list[Unavailable] = []
        if are_left_out(self.of.rules, claims):
            reason = (
                "You are in so many groups that your account's token leaves them out. Ask the operator to use roles."
            )
            missing.append(Unavailable(self.title, reason))
        elif not rights:
            reason = "Nothing is open to your groups or roles there. Ask the operator of this installation."
            missing.append(Unavailable(self.title, reason))
        return Memberships(rights, missing, ui_role_by(self.of.rules, claims))

    async def _tokens(self, form: Mapping[str, str]) -> Mapping[str, Any] | str:
        """The answer of the token endpoint, or the name of its refusal. Raises: ProviderUnavailable."""
        client_id, secret = self.sign_in_as.client_id, self.sign_in_as.client_secret()
        methods = (await self.issuer.metadata()).get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        more: dict[str, Any] = {}
        if secret and "client_secret_basic" in methods:
            more["auth"] = (quote(client_id, safe=""), quote(secret, safe=""))
        else:
            form = {**form, "client_id": client_id, **({"client_secret": secret} if secret else {})}
        status, answer = await self.issuer.request(
            "POST", await self._endpoint("token_endpoint"), data=dict(form), **more
        )
        if status == httpx.codes.OK and isinstance(answer, dict) and isinstance(answer.get("access_token"), str):
            return answer
        refusal = answer.get("error") if isinstance(answer, dict) else None
        if status in (400, 401) and isinstance(refusal, str):
            return refusal[:80]
        raise self._unavailable(f"its token endpoint answers {status}")

    async def _endpoint(self, name: str) -> str:
        found = (await self.issuer.metadata()).get(name)
        if not isinstance(found, str):
            raise self._unavailable(f"it names no {name}")
        return found

    def _username(self, claims: Mapping[str, Any]) -> str:
        for name in (self.of.name, "preferred_username", "email", "name"):
            found = claims.get(name)
            if isinstance(found, str) and found.strip() and found.isprintable():
                return found.strip()[:_MAX_NAME_LENGTH]
        return str(claims["sub"])[:_MAX_NAME_LENGTH]

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.title}: {why}.", next_step="Try again in a moment.")


def _kept(answer: Mapping[str, Any]) -> ProviderTokens | None:
    """The tokens to keep: without a refresh token nothing can be asked again."""
    refresh = answer.get("refresh_token")
    if not isinstance(refresh, str) or not refresh:
        return None
    return ProviderTokens(str(answer.get("access_token", "")), refresh, None)
