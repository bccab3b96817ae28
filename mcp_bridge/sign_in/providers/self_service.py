"""Project spaces of one server that are no tenants yet: people ask for them, or an administrator registers one.

Who asks or registers has just been told by the server that the space is theirs; only such a space gets here.
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from explorer.catalog import ApiKeyCredential, ProvisioningRequest
from explorer.providers.base import CredentialField, make_credential
from mcp_bridge.sign_in.identity import Identity, Keep, ProviderTokens, RegistrationRefused, Unavailable
from mcp_bridge.sign_in.providers.of_server import ServerPeople, actor_of


@dataclass(frozen=True)
class ServerSelfService:
    """A `SelfService` of the server where `people` sign in."""

    people: ServerPeople

    @property
    def fields(self) -> Sequence[CredentialField]:
        # A key of its own, never the person's tokens: tokens in two places break when one of them renews them.
        return self.people.provider.credential_kinds[0].fields

    def ask(self, identity: Identity, space: Unavailable) -> None:
        way, catalog = self.people, self.people.catalog()
        if way.file.self_service != "request" or space.external_id is None:
            raise _not_here()
        catalog.tenant_requests.ask(
            way.provider.name, way.server, space.external_id, space.title, actor_of(catalog, identity)
        )

    def check(self, identity: Identity, tokens: ProviderTokens | None, space: Unavailable, keep: Keep) -> None:
        way = self.people
        if space.external_id is None or not way.is_open(space.external_id):
            raise _not_here()
        if way.is_registered(space.external_id):
            raise RegistrationRefused(
                f"{_short(space)} is registered here by now.",
                next_step="Begin the sign-in anew, which tells what you may do there.",
            )
        if tokens is None:
            raise RegistrationRefused(
                f"Nobody can tell here whether you are an administrator of {_short(space)}.",
                next_step="Ask the operator of this installation.",
            )
        role = way.told_role(tokens, space.external_id, keep)
        if role is None or not role.is_admin:
            raise RegistrationRefused(
                f"Only an administrator of {_short(space)} can register it, and you are none.",
                next_step="Ask one of them to sign in here and to register it.",
            )
        catalog = way.catalog()
        registered = catalog.provisioning.registered_by(actor_of(catalog, identity), self._key(space.external_id))
        self._check_quota(registered)

    def register(
        self,
        identity: Identity,
        tokens: ProviderTokens | None,
        space: Unavailable,
        values: Mapping[str, str],
        follows: str,
        keep: Keep,
    ) -> ProvisioningRequest:
        self.check(identity, tokens, space, keep)
        way, catalog = self.people, self.people.catalog()
        credential = make_credential(way.provider, way.server, values)
        if isinstance(credential, ApiKeyCredential) and tokens is not None:
            self._refuse_part(credential.username, tokens, space, keep)
        place = {"provider": way.provider.name, "server": way.server, "external_id": space.external_id or ""}
        wish = {**place, "follows": follows}
        key, actor = self._key(place["external_id"]), actor_of(catalog, identity)
        asked = catalog.provisioning.ask_to_register(key, wish, credential, actor, self._check_quota)
        if asked is None:
            raise RegistrationRefused("You are registering another one at this moment.", next_step="Try again.")
        # A form that was sent twice leads to what it asked for. Anything else that is open for the key is not this person's.
        if asked.actor != actor or not place.items() <= (asked.place or {}).items():
            raise RegistrationRefused(
                f"Something else was asked for {_short(space)} before, which is not done yet.",
                next_step="Try again in some minutes; if it lasts, ask the operator of this installation.",
            )
        return asked

    def _key(self, external_id: str) -> str:
        """The key of the tenant that is made of a space."""
        return f"{self.people.name}:{re.sub(r'[^A-Za-z0-9._:-]', '-', external_id)}"[:128]

    def _refuse_part(self, username: str, tokens: ProviderTokens, space: Unavailable, keep: Keep) -> None:
        """The tables would hold what the owner of the key sees. An administrator is told of every member; the key's owner
        mostly not even of themselves."""
        role = self.people.told_role(tokens, space.external_id or "", keep, username)
        if role is not None and not role.sees_all:
            raise RegistrationRefused(
                f"The role of {username[:80]} ({role.name[:80]}) is limited to some locations, "
                f"and the tables here hold the whole {self.people.provider.tenant_noun}.",
                next_step="Give the key of somebody who may access all locations.",
            )

    def _check_quota(self, registered: Set[str]) -> None:
        if len(registered) >= self.people.file.self_service_quota:
            raise RegistrationRefused(
                f"You have registered {len(registered)} already, and may not register more.",
                next_step="Ask the operator of this installation.",
            )


def _short(space: Unavailable) -> str:
    return space.title[:80]


def _not_here() -> RegistrationRefused:
    return RegistrationRefused(
        "Project spaces are not registered from this page.", next_step="Ask the operator of this installation."
    )
