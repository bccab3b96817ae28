"""Who is this person, and what may they do? What an identity provider tells the authorization server.

The authorization server issues its own tokens; an identity provider (a server of a project space's provider, or an organisation's
OpenID provider) only says who somebody is and which tenants are theirs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from explorer.catalog import Identity, ProviderTokens, ProvisioningRequest, Scope, SignedInPrincipal, UiRole
from explorer.core.errors import ExplorerError
from explorer.providers.base import CredentialField

__all__ = [
    "BearerTokens",
    "Identity",
    "IdentityEnded",
    "IdentityProvider",
    "Keep",
    "MembershipCheck",
    "Memberships",
    "ProviderTokens",
    "ProviderUnavailable",
    "RegistrationRefused",
    "SelfService",
    "SignInFailed",
    "SignedIn",
    "SignedInPrincipal",
    "UiNotOpen",
    "Unavailable",
]


# Stores renewed tokens. Blocks; called in a thread.
Keep = Callable[[ProviderTokens], object]


class SignInFailed(ExplorerError):
    """The identity provider does not let this person in, or its answer cannot be trusted. For the person's eyes."""

    code = "sign_in_failed"


class IdentityEnded(ExplorerError):
    """The person was deactivated or took the consent back: all that was granted to them ends."""

    code = "identity_ended"


class UiNotOpen(ExplorerError):
    """The Dagster UI is not open to this person, or to nobody who signs in. For the person's eyes."""

    code = "ui_not_open"


class RegistrationRefused(ExplorerError):
    """This person may not make a tenant of that project space here."""

    code = "registration_refused"


class ProviderUnavailable(ExplorerError):
    """The identity provider does not answer, or not in a form that can be read. Nothing is known from that."""

    code = "identity_provider_unavailable"


@dataclass(frozen=True)
class Unavailable:
    """A tenant, or a project space that is none yet, which the person gets nothing of, and why, in a sentence for them.
    `external_id`: of one that is none yet, if there is something to do; `action`: ask the operator for it, or register it."""

    title: str
    reason: str
    external_id: str | None = None
    action: Literal["ask", "register"] | None = None


@dataclass(frozen=True)
class Memberships:
    """The whole list of what the person may do. `rights`: scopes by tenant key; `ui`: the role in the Dagster UI."""

    rights: Mapping[str, frozenset[Scope]]
    unavailable: Sequence[Unavailable] = ()
    ui: UiRole | None = None


@dataclass(frozen=True)
class SignedIn:
    """A completed sign-in, and what the person may do. `tokens`: None where none are kept; what was granted then ends after a
    time of its own."""

    identity: Identity
    tokens: ProviderTokens | None
    memberships: Memberships


class IdentityProvider(Protocol):
    """One configured way to sign in."""

    @property
    def name(self) -> str:
        """Its name in the settings and in its redirect URI, `/oauth/callback/<name>`."""

    @property
    def title(self) -> str:
        """Its name for people, as on the page where one chooses."""

    @property
    def opens_ui(self) -> bool:
        """Whether it lets anybody into the Dagster UI."""

    async def authorize_url(self, *, redirect_uri: str, state: str, challenge: str, nonce: str) -> str:
        """The address to send the browser to. `challenge`: S256. Raises: ProviderUnavailable."""

    async def sign_in(self, *, code: str, verifier: str, nonce: str, redirect_uri: str) -> SignedIn:
        """Exchange the code of a callback. Raises: SignInFailed, ProviderUnavailable."""

    async def memberships(self, identity: Identity, tokens: ProviderTokens, keep: Keep) -> Memberships:
        """What the person may do now. `keep` is called at once with renewed tokens, since the provider may have ended the old
        ones, whatever becomes of the rest.

        Raises:
            IdentityEnded, ProviderUnavailable.
        """


class SelfService(Protocol):
    """How people ask for tenants of one server, or register them. All methods block."""

    @property
    def fields(self) -> Sequence[CredentialField]:
        """What a person gives, so that the data can be read."""

    def ask(self, identity: Identity, space: Unavailable) -> None:
        """Ask the operator for a space of the person."""

    def check(self, identity: Identity, tokens: ProviderTokens | None, space: Unavailable, keep: Keep) -> None:
        """Whether the person may register the space.

        Raises:
            RegistrationRefused: says who can.
            IdentityEnded, ProviderUnavailable.
        """

    def register(
        self,
        identity: Identity,
        tokens: ProviderTokens | None,
        space: Unavailable,
        values: Mapping[str, str],
        follows: str,
        keep: Keep,
    ) -> ProvisioningRequest:
        """Ask the provisioning job for a tenant of the space, with the credential of `values`, that follows schedules as chosen
        (a key of `FOLLOWS`). Raises as `check`, and CredentialInvalid."""


class MembershipCheck(Protocol):
    """Keeps the rights of people as fresh as what is served demands."""

    async def current(self, principal: SignedInPrincipal) -> SignedInPrincipal | None:
        """The principal with rights that are fresh enough; None when all that was granted to the person has ended.

        Raises:
            ProviderUnavailable: the rights are too old, and nobody can renew them now.
        """


class BearerTokens(Protocol):
    """Tokens of an organisation's own provider, which machines send instead of signing in."""

    async def verify(self, token: str) -> SignedInPrincipal | None:
        """The caller of a token; None when it is not valid here. `grant_id` is None, `scopes` is all that the rights hold.

        Raises:
            ProviderUnavailable: its keys cannot be read.
        """
