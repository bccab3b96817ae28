"""How do tenants log in to their server? API keys, OAuth tokens and other credentials of providers, encrypted at rest. Tokens are
refreshed once for all processes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.audit.log import change, record
from explorer.catalog.errors import CatalogUnavailable, CredentialInvalid, CredentialMissing
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import credentials, syncs
from explorer.catalog.tenants.tenant import Tenant

# A refresh is one HTTP request with retries; other processes wait for it.
_REFRESH_WAIT_S = 180
_SAVE_ATTEMPTS = 3
# Fields that may not be empty; of kinds not listed here no field may.
_REQUIRED = {"api_key": ("username", "api_key"), "oauth": ("client_id", "token_url", "refresh_token")}


@dataclass(frozen=True)
class ApiKeyCredential:
    """A user's name and key."""

    kind: ClassVar[str] = "api_key"
    username: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class OAuthCredential:
    """A grant with an access token that is renewed; the refresh token may change with every refresh.

    `access_token` is empty and `expires_at` None before the first refresh; `client_secret` is empty for public clients.
    """

    kind: ClassVar[str] = "oauth"
    client_id: str
    client_secret: str = field(repr=False)
    token_url: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True)
class FieldsCredential:
    """A credential of a kind that only its provider knows: values by field name."""

    kind: str
    fields: Mapping[str, str] = field(repr=False)


Credential = ApiKeyCredential | OAuthCredential | FieldsCredential


class CredentialStore:
    """One credential per tenant."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database = database
        self._keyring = keyring

    def load(self, tenant: Tenant) -> Credential:
        """The tenant's credential.

        Raises:
            CredentialMissing, KeyringMismatch.
        """
        with self._database.begin() as connection:
            ciphertext = connection.scalar(select(credentials.c.ciphertext).where(credentials.c.tenant_id == tenant.id))
        return self._open(tenant, ciphertext)

    def save(self, tenant: Tenant, credential: Credential) -> None:
        """Replace the tenant's credential by `credential`.

        Raises:
            CredentialInvalid
        """
        check_credential(tenant.server, credential)
        with self._database.begin() as connection:
            self.put(connection, tenant.id, credential)
            # Schedules try a tenant again whose old credential they had given up.
            held = syncs.c.tenant_id == tenant.id
            lifted = {"failures": 0, "failure": None, "held_until": None, "judged_at": func.now()}
            connection.execute(update(syncs).where(held).values(lifted))
            record(connection, change("save_credential", tenant.key, kind=credential.kind))

    def refresh(
        self, tenant: Tenant, stale_access_token: str, do_refresh: Callable[[OAuthCredential], OAuthCredential]
    ) -> OAuthCredential:
        """A credential whose access token is not `stale_access_token`: another process's, or the result of `do_refresh`.

        Of all processes that find the same expired token, one calls `do_refresh` under a row lock and the others wait. When it
        raises, nothing is changed and the error goes to its caller.

        Raises:
            CredentialMissing, KeyringMismatch, CatalogUnavailable.
        """
        fresh: OAuthCredential | None = None
        try:
            with self._database.begin(lock_timeout_s=_REFRESH_WAIT_S) as connection:
                ciphertext = connection.scalar(
                    select(credentials.c.ciphertext).where(credentials.c.tenant_id == tenant.id).with_for_update()
                )
                current = self._open(tenant, ciphertext)
                if not isinstance(current, OAuthCredential):
                    kind = "n API key" if current.kind == ApiKeyCredential.kind else " credential"
                    raise CredentialMissing(
                        f"Tenant {tenant.key} uses a{kind}, which is not refreshed.",
                        next_step=f"Correct the {kind.split(' ', 1)[1]}.",
                    )
                if current.access_token != stale_access_token:
                    return current
                fresh = do_refresh(current)
                self.put(connection, tenant.id, fresh)
        except CatalogUnavailable:
            # The server has replaced the refresh token: losing the new one would lock the tenant out.
            if fresh is None:
                raise
            self._save_again(tenant, fresh)
        return fresh

    def put(self, connection: Connection, tenant_id: UUID, credential: Credential) -> None:
        """`save` in the caller's transaction."""
        ciphertext = self._keyring().encrypt(credential_purpose(tenant_id), dump_credential(credential))
        values = {"kind": credential.kind, "ciphertext": ciphertext, "updated_at": func.now()}
        connection.execute(
            insert(credentials)
            .values(tenant_id=tenant_id, **values)
            .on_conflict_do_update(index_elements=[credentials.c.tenant_id], set_=values)
        )

    def _open(self, tenant: Tenant, ciphertext: bytes | None) -> Credential:
        if ciphertext is None:
            raise CredentialMissing(
                f"Tenant {tenant.key} has no credential.",
                next_step="Add the tenant again with its API key or OAuth tokens.",
            )
        return parse_credential(self._keyring().decrypt(credential_purpose(tenant.id), ciphertext))

    def _save_again(self, tenant: Tenant, credential: OAuthCredential) -> None:
        for attempt in range(1, _SAVE_ATTEMPTS + 1):
            try:
                with self._database.begin() as connection:
                    self.put(connection, tenant.id, credential)
                return
            except CatalogUnavailable:
                if attempt == _SAVE_ATTEMPTS:
                    raise


def check_credential(server: str, credential: Credential) -> None:
    """Check that `credential` is complete and is only ever sent to `server`, a canonical address.

    Raises:
        CredentialInvalid
    """
    values = _values(credential)
    for name in _REQUIRED.get(credential.kind, values):
        if not values[name].strip():
            raise CredentialInvalid(f"The credential's {name} is empty.", next_step=f"Give the {name}.")
    if not all(value.isprintable() for value in values.values() if isinstance(value, str)):
        raise CredentialInvalid(
            "The credential contains line breaks or other control characters.", next_step="Copy it again, without them."
        )
    if isinstance(credential, OAuthCredential) and not credential.token_url.startswith(f"{server}/"):
        raise CredentialInvalid(
            f"The OAuth token URL is not on {server}.",
            next_step="Use the token URL of the same server: its URL + /oauth/token/.",
        )


def credential_purpose(tenant_id: UUID) -> str:
    """The keyring's purpose for a credential."""
    return f"credential:{tenant_id}"


def _values(credential: Credential) -> dict[str, Any]:
    return dict(credential.fields) if isinstance(credential, FieldsCredential) else asdict(credential)


def dump_credential(credential: Credential) -> bytes:
    """The credential as bytes, to be encrypted."""
    values = _values(credential)
    if isinstance(credential, FieldsCredential):
        values = {"kind": credential.kind, "fields": values}
    if isinstance(credential, OAuthCredential) and credential.expires_at is not None:
        values["expires_at"] = credential.expires_at.isoformat()
    return json.dumps(values).encode()


def parse_credential(plaintext: bytes) -> Credential:
    """The credential in decrypted bytes."""
    values = json.loads(plaintext)
    if "fields" in values:
        return FieldsCredential(**values)
    if "api_key" in values:
        return ApiKeyCredential(**values)
    if values["expires_at"] is not None:
        values["expires_at"] = datetime.fromisoformat(values["expires_at"])
    return OAuthCredential(**values)
