"""Which Authorization header does the next request carry? An API key's, or an access token that is renewed when it ends.

Where credentials are kept, and that only one process renews a token, is the business of the `refresh` callable (the catalog's).
"""

import dataclasses
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from typing_extensions import TypeIs

from explorer.providers.commcare import settings as constants
from explorer.providers.commcare.address import Server
from explorer.providers.commcare.errors import CommCareError, CredentialsInvalid, NotCommCare, ServerError, Unreachable
from explorer.providers.commcare.wire import AnswerRefused, NoAnswer, Wire


class ApiKey(Protocol):
    """A user's API key, as the catalog keeps it."""

    @property
    def username(self) -> str: ...
    @property
    def api_key(self) -> str: ...


class OAuth(Protocol):
    """An OAuth grant, as the catalog keeps it: a frozen dataclass. `expires_at` is aware, None when unknown."""

    @property
    def client_id(self) -> str: ...
    @property
    def client_secret(self) -> str | None: ...
    @property
    def token_url(self) -> str: ...
    @property
    def access_token(self) -> str: ...
    @property
    def refresh_token(self) -> str | None: ...
    @property
    def expires_at(self) -> datetime | None: ...


Credential = ApiKey | OAuth
# (access token found stale, how to renew a credential) -> the credential in force afterwards, renewed here or by another process.
Refresh = Callable[[str, Callable[[Any], Any]], Any]


class Authorization:
    """The credential in force; usable from many threads. Its repr and errors never show it."""

    def __init__(self, server: Server, credential: Credential, refresh: Refresh | None, wire: Wire) -> None:
        self._server = server
        self._credential = credential
        self._refresh = refresh
        self._wire = wire
        self._lock = threading.Lock()
        if _is_oauth(credential) and not server.owns(credential.token_url):
            raise CredentialsInvalid(
                f"The token address is not on {server.host}: the grant's secrets would leave the tenant's own server.",
                next_step=f"Use {server.base}{constants.TOKEN_PATH}.",
            )

    def header(self) -> tuple[str, str | None]:
        """Header value and, for OAuth, the access token inside it (to name it in `renew`).

        Raises:
            CredentialsInvalid: the credential cannot be sent, or its renewal was refused.
        """
        credential = self._credential
        if not _is_oauth(credential):
            return _sendable(f"ApiKey {credential.username}:{credential.api_key}"), None
        if not credential.access_token or _ends_soon(credential.expires_at):
            self.renew(credential.access_token)
            credential = self._credential
        token: str = credential.access_token  # type: ignore[union-attr]
        return _sendable(f"Bearer {token}"), token

    def renew(self, stale_access_token: str) -> None:
        """Replace an access token that ended, unless another thread already did.

        Raises:
            CredentialsInvalid: the server refused the renewal.
            Unreachable, ServerError: it did not answer; the old grant is still the one in force.
        """
        with self._lock:
            if not _is_oauth(self._credential) or self._credential.access_token != stale_access_token:
                return
            if self._refresh is None:
                self._credential = self._ask_server(self._credential)
            else:
                self._credential = self._refresh(stale_access_token, self._ask_server)

    def _ask_server(self, credential: Any) -> Any:
        """The same grant with fresh tokens from the token endpoint (RFC 6749, 6); HQ replaces the refresh token too."""
        if not credential.refresh_token:
            raise CredentialsInvalid(
                "The access token ended and there is no refresh token.",
                next_step="Authorise the tenant again (explorer tenants add).",
            )
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credential.refresh_token,
            "client_id": credential.client_id,
        }
        if credential.client_secret:
            form["client_secret"] = credential.client_secret
        grant = self._post_token(credential.token_url, form)
        try:
            token, lifetime_s = (
                grant["access_token"],
                min(float(grant.get("expires_in") or 0), constants.TOKEN_MAX_LIFETIME_S),
            )
            renewed = grant.get("refresh_token") or credential.refresh_token
        except (KeyError, TypeError, ValueError, AttributeError):
            token = renewed = None
        if not isinstance(token, str) or not token or not isinstance(renewed, str):
            raise NotCommCare(
                "The token endpoint's answer holds no access token.",
                next_step="Check the tenant's server and token address.",
            )
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_s) if lifetime_s > 0 else None
        return dataclasses.replace(credential, access_token=token, refresh_token=renewed, expires_at=expires_at)

    def _post_token(self, url: str, form: dict[str, str]) -> Any:
        failure: CommCareError | None = None
        for _ in range(constants.TOKEN_ATTEMPTS):
            try:
                answer = self._wire.send("POST", url, form=form)
            except NoAnswer as none:
                failure = Unreachable(
                    f"The token endpoint of {self._server.host} {none.why} ({none.kind}).",
                    next_step="Try again later; the tenant's credentials are unchanged.",
                )
                continue
            except AnswerRefused as refused:
                raise NotCommCare(
                    f"The token endpoint's answer cannot be used: {refused.why}.",
                    next_step="Check the tenant's server and token address.",
                ) from None
            if answer.status == 200:
                try:
                    return msgspec.json.decode(answer.body)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    return None
            if answer.status < 500 and answer.status != 429:
                raise CredentialsInvalid(
                    f"The server refused to renew the access token (HTTP {answer.status}).",
                    next_step="Authorise the tenant again (explorer tenants add): a refresh token lives 15 days.",
                    details={"status": answer.status},
                )
            failure = ServerError(
                f"The token endpoint failed (HTTP {answer.status}).",
                next_step="Try again later; the tenant's credentials are unchanged.",
                details={"status": answer.status},
            )
        assert failure is not None  # noqa: S101 - TOKEN_ATTEMPTS is at least one
        raise failure


def _is_oauth(credential: Credential) -> TypeIs[OAuth]:
    return hasattr(credential, "access_token")


def _ends_soon(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at - datetime.now(UTC) < timedelta(seconds=constants.TOKEN_RENEW_BEFORE_S)


def _sendable(header: str) -> str:
    """Refuse what HTTP cannot carry here: the HTTP library would repeat the header in its own error."""
    if not header.isascii() or not header.isprintable() or header != header.strip():
        raise CredentialsInvalid(
            "The credential holds characters that cannot be sent.",
            next_step="Copy user name and key again, without spaces or line ends.",
        )
    return header
