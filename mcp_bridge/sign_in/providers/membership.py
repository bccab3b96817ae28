"""Are a person's rights fresh enough to serve a call? Asked of the identity provider again, in the background where possible.

Rights older than ten minutes are renewed before the call is served. When the provider does not answer, they count until they are
an hour old. Of all replicas one asks at a time; the result is a row in the catalog, which every replica reads.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from explorer.catalog import AuditEntry, Catalog, IdentityRecord, Principal
from explorer.contract.headers import UI_CLIENT
from explorer.core.errors import ExplorerError
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.identity import (
    IdentityEnded,
    IdentityProvider,
    ProviderTokens,
    ProviderUnavailable,
    SignedInPrincipal,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ages:
    """Limits in seconds. `fresh_s`: younger rights are served as they are; `due_s`: older ones are renewed first; `stale_s`:
    older ones are never served; `inline_s`: how long a call waits; `unchecked_s`: for people whose tokens are not kept;
    `pause_s`: after a failure nobody waits again for so long; `hold_s`: how long one replica may take; `poll_s`: between two
    looks whether another replica is done."""

    fresh_s: float = 300.0
    due_s: float = 600.0
    stale_s: float = 3600.0
    inline_s: float = 3.0
    unchecked_s: float = 12 * 3600.0
    pause_s: float = 30.0
    hold_s: float = 60.0
    poll_s: float = 0.2


class Membership:
    """Implements `MembershipCheck`. `providers`: by name."""

    def __init__(
        self, providers: Mapping[str, IdentityProvider], catalog: Callable[[], Catalog], ages: Ages | None = None
    ) -> None:
        self.providers, self.ages = providers, ages or Ages()
        self._catalog, self._calls = catalog, CatalogCalls(catalog)
        self._running: dict[UUID, asyncio.Task[None]] = {}
        # Until when nobody waits for a provider that failed.
        self._paused: dict[UUID, float] = {}

    async def current(self, principal: SignedInPrincipal) -> SignedInPrincipal | None:
        """See `MembershipCheck`."""
        age_s, ages = principal.checked_age_s, self.ages
        if age_s <= ages.fresh_s:
            return principal
        provider = self.providers.get(principal.provider)
        if provider is None:
            # The settings do not name it any more: nobody can tell what the person may do.
            return None
        person = principal.principal.id
        is_paused = time.monotonic() < self._paused.get(person, 0.0)
        if age_s <= ages.due_s:
            if not is_paused:
                self._renewing(person, provider)
            return principal
        if not is_paused:
            await asyncio.wait({self._renewing(person, provider)}, timeout=ages.inline_s)
        return await self._now(principal)

    async def _now(self, principal: SignedInPrincipal) -> SignedInPrincipal | None:
        """The principal with the rights that are stored now, if they may be served."""
        record = await self._calls.ask(lambda catalog: catalog.identities.find(principal.principal.id))
        if record is None or record.is_blocked:
            return None
        if record.tokens is None:
            # Ended meanwhile, or never kept. A session of the UI needs no rights, and is looked up again.
            alive = (
                bool(record.rights) or principal.client_id == UI_CLIENT
            ) and record.checked_age_s <= self.ages.unchecked_s
            return _with_rights(principal, record) if alive else None
        if record.checked_age_s > self.ages.stale_s:
            raise ProviderUnavailable(
                "What this person may do was last confirmed more than an hour ago.",
                next_step="Try again when the identity provider answers.",
            )
        return _with_rights(principal, record)

    def _renewing(self, person: UUID, provider: IdentityProvider) -> "asyncio.Task[None]":
        """The task that renews the person's rights, begun unless it runs already."""
        task = self._running.get(person)
        if task is None:
            task = self._running[person] = asyncio.create_task(self._renew(person, provider))
            task.add_done_callback(lambda _: self._running.pop(person, None))
        return task

    async def _renew(self, person: UUID, provider: IdentityProvider) -> None:
        """Ask the provider, or wait for the replica that does. Never raises."""
        self._paused.pop(person, None)
        try:
            if await self._calls.ask(lambda catalog: catalog.identities.claim_check(person, self.ages.hold_s)):
                await self._claimed(person, provider)
            else:
                await self._awaited(person)
        except TimeoutError:
            self._paused[person] = time.monotonic() + self.ages.pause_s
        except ExplorerError as error:
            self._paused[person] = time.monotonic() + self.ages.pause_s
            _log.warning("The rights of %s were not renewed: %s [%s]", person, error.message, error.code)
        except Exception:
            self._paused[person] = time.monotonic() + self.ages.pause_s
            _log.exception("The rights of %s were not renewed", person)

    async def _claimed(self, person: UUID, provider: IdentityProvider) -> None:
        record = await self._calls.ask(lambda catalog: catalog.identities.find(person))
        if record is None or record.checked_age_s <= self.ages.fresh_s or record.tokens is None:
            await self._calls.ask(lambda catalog: catalog.identities.release_check(person))
            if record is None or record.tokens is None:
                # Without tokens nobody can be asked: not on every call again.
                self._paused[person] = time.monotonic() + self.ages.pause_s
            return

        def keep(tokens: ProviderTokens) -> None:
            self._catalog().identities.save_tokens(person, tokens)

        try:
            found = await provider.memberships(record.identity, record.tokens, keep)
        except IdentityEnded as error:
            await self._end(record, error)
        except BaseException:
            await self._calls.ask(lambda catalog: catalog.identities.release_check(person))
            raise
        else:
            lost = sorted(record.rights.keys() - {key for key, scopes in found.rights.items() if scopes})
            ended = await self._calls.ask(lambda catalog: catalog.identities.save_check(person, found.rights, found.ui))
            if ended:
                await self._calls.audit(record.name, "grant_revoked", "ok", "ui_role_changed", sessions=ended)
            for key in lost:
                await self._calls.ask(partial(_note_lost, record.name, key))

    async def _end(self, record: IdentityRecord, error: IdentityEnded) -> None:
        """End all that was granted to the person. Signing in again meanwhile gives new tokens, which are not ended."""
        now = await self._calls.ask(lambda catalog: catalog.identities.find(record.principal_id))
        if now is not None and now.tokens != record.tokens and now.checked_age_s < record.checked_age_s:
            return
        count = await self._calls.ask(lambda catalog: catalog.identities.end(record.principal_id))
        await self._calls.audit(record.name, "grant_revoked", "ok", error.code, grants=count, reason=error.message)

    async def _awaited(self, person: UUID) -> None:
        """Wait until another replica has renewed the rights, at most as long as a call waits."""
        async with asyncio.timeout(self.ages.inline_s):
            while True:
                record = await self._calls.ask(lambda catalog: catalog.identities.find(person))
                if record is None or record.tokens is None or record.checked_age_s <= self.ages.fresh_s:
                    return
                await asyncio.sleep(self.ages.poll_s)


def _note_lost(name: str, tenant_key: str, catalog: Catalog) -> None:
    catalog.audit.append(AuditEntry(name, "membership_lost", tenant_key, "ok"))


def _with_rights(principal: SignedInPrincipal, record: IdentityRecord) -> SignedInPrincipal:
    person = principal.principal
    return replace(
        principal,
        principal=Principal(person.id, person.name, record.rights),
        checked_age_s=record.checked_age_s,
    )
