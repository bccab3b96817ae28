"""Which authorization headers does the next request carry? An API key's, or those of an access token, renewed before it ends.

The `refresh` callable (of the catalog) stores credentials and makes sure that only one process renews a token.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from typing_extensions import TypeIs

from explorer.http import constants
from explorer.http.address import Server
from explorer.http.api import Api, Service
from explorer.http.errors import ApiError, CredentialsInvalid, ServerError, Unreachable, WrongServer
from explorer.http.failures import AnswerRefused, NoAnswer
from explorer.http.wire import Answer, Wire


class ApiKey(Protocol):
    """A user's API key, as stored in the catalog."""

    @property
    def username(self) -> str: ...
    @property
    def api_key(self) -> str: ...


class OAuth(Protocol):
    """An OAuth grant, as stored in the catalog: a frozen dataclass. `expires_at` is aware, None when unknown."""

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


class Fields(Protocol):
    """A credential whose kind only its provider knows, as stored in the catalog."""

    @property
    def fields(self) -> Mapping[str, str]: ...


Credential = ApiKey | OAuth | Fields
# (expired access token, how to renew a credential) -> the credential in force, renewed here or by another process.
Refresh = Callable[[str, Callable[[Any], Any]], Any]


class Authorization:
    """The credential in force. Thread-safe. Its repr and its errors never show it."""

    def __init__(self, server: Server, api: Api, credential: Credential, refresh: Refresh | None, wire: Wire) -> None:
        self._api = api
        self._tokens = TokenEndpoint(server, api.service, wire)
        self._credential = credential
        self._refresh = refresh
        self._lock = threading.Lock()
        if _is_oauth(credential) and not server.owns(credential.token_url):
            raise CredentialsInvalid(
                f"The token address is not on {server.host}: the grant's secrets would leave the tenant's own server.",
                provider=api.service.name,
                next_step=f"Use {server.base}{api.service.token_path}.",
            )

    def headers(self) -> tuple[Mapping[str, str], str | None]:
        """Headers and, for OAuth, the access token in them (an argument for `renew`).

        Raises:
            CredentialsInvalid: the credential cannot be sent, or its renewal was refused.
        """
        credential = self._credential
        if not _is_oauth(credential):
            return self._sendable(self._api.headers(credential)), None
        if not credential.access_token or _ends_soon(credential.expires_at):
            self.renew(credential.access_token)
            credential = self._credential
        token: str = credential.access_token  # type: ignore[union-attr]
        return self._sendable({"Authorization": f"Bearer {token}"}), token

    def renew(self, stale_access_token: str) -> None:
        """Replace an expired access token, unless another thread already did.

        Raises:
            CredentialsInvalid: the server refused the renewal.
            Unreachable, ServerError: it did not answer; the old grant stays in force.
        """
        with self._lock:
            if not _is_oauth(self._credential) or self._credential.access_token != stale_access_token:
                return
            if self._refresh is None:
                self._credential = self._tokens.renewed(self._credential)
            else:
                self._credential = self._refresh(stale_access_token, self._tokens.renewed)

    def _sendable(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Refuse headers that HTTP cannot carry: the HTTP library would repeat them in its error."""
        if not all(value.isascii() and value.isprintable() and value == value.strip() for value in headers.values()):
            raise CredentialsInvalid(
                "The credential holds characters that cannot be sent.",
                provider=self._api.service.name,
                next_step=f"Copy {self._api.service.credential_parts} again, without spaces or line ends.",
            )
        return headers


@dataclass(frozen=True)
class TokenGrant:
    """The tokens of an answer. `expires_at`: None when the server does not say; `scope`: as the server writes it."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime | None
    scope: str


class TokenEndpoint:
    """Requests tokens from the server: for an authorization code (RFC 6749, 4.1.3), or new ones (6)."""

    def __init__(self, server: Server, service: Service, wire: Wire) -> None:
        self._server, self._service, self._wire = server, service, wire

    def renewed(self, credential: Any) -> Any:
        """The same grant with new tokens; a server may also replace the refresh token."""
        if not credential.refresh_token:
            raise CredentialsInvalid(
                "The access token ended and there is no refresh token.",
                provider=self._service.name,
                next_step="Authorise the tenant again (explorer tenants add).",
            )
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credential.refresh_token,
            "client_id": credential.client_id,
        }
        if credential.client_secret:
            form["client_secret"] = credential.client_secret
        grant = self._granted(self._ask(credential.token_url, form))
        return dataclasses.replace(
            credential,
            access_token=grant.access_token,
            refresh_token=grant.refresh_token or credential.refresh_token,
            expires_at=grant.expires_at,
        )

    def exchanged(
        self, *, client_id: str, client_secret: str, code: str, verifier: str, redirect_uri: str
    ) -> TokenGrant:
        """The tokens of an authorization code, which works once: nothing is tried again.

        Raises:
            CredentialsInvalid: the server refused the code or the client.
            Unreachable, ServerError, WrongServer.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
            "client_id": client_id,
        }
        if client_secret:
            form["client_secret"] = client_secret
        return self._granted(self._ask(f"{self._server.base}{self._service.token_path}", form, attempts=1))

    def _granted(self, answer: Any) -> TokenGrant:
        try:
            token, renewed = answer["access_token"], answer.get("refresh_token")
            lifetime_s = min(float(answer.get("expires_in") or 0), constants.TOKEN_MAX_LIFETIME_S)
            scope = answer.get("scope") or ""
        except (KeyError, TypeError, ValueError, AttributeError):
            token, renewed, lifetime_s, scope = None, None, 0.0, ""
        if not isinstance(token, str) or not token or not isinstance(renewed, str | None) or not isinstance(scope, str):
            raise WrongServer(
                "The token endpoint's answer holds no access token.",
                provider=self._service.name,
                next_step="Check the tenant's server and token address.",
            )
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_s) if lifetime_s > 0 else None
        return TokenGrant(token, renewed or None, expires_at, scope)

    def _ask(self, url: str, form: dict[str, str], attempts: int = constants.TOKEN_ATTEMPTS) -> Any:
        """The endpoint's answer as plain values, None when it is no JSON. Retries transient failures."""
        failure: ApiError | None = None
        for _ in range(attempts):
            try:
                answer = self._wire.send("POST", url, form=form)
            except NoAnswer as none:
                failure = Unreachable(
                    f"The token endpoint of {self._server.host} {none.why} ({none.kind}).",
                    provider=self._service.name,
                    next_step="Try again later; the tenant's credentials are unchanged.",
                )
                continue
            except AnswerRefused as refused:
                raise WrongServer(
                    f"The token endpoint's answer cannot be used: {refused.why}.",
                    provider=self._service.name,
                    next_step="Check the tenant's server and token address.",
                ) from None
            if answer.status == 200:
                return _decoded(answer)
            failure = self._refused(answer)
            if isinstance(failure, CredentialsInvalid):
                raise failure
        assert failure is not None  # noqa: S101 - there is at least one attempt
        raise failure

    def _refused(self, answer: Answer) -> ApiError:
        if answer.status < 500 and answer.status != 429:
            return CredentialsInvalid(
                f"The server refused to give an access token (HTTP {answer.status}).",
                provider=self._service.name,
                next_step="Authorise the tenant again (explorer tenants add): a refresh token lives"
                f" {self._service.refresh_lifetime}.",
                details={"status": answer.status, **_reason(answer)},
            )
        return ServerError(
            f"The token endpoint failed (HTTP {answer.status}).",
            provider=self._service.name,
            next_step="Try again later; the tenant's credentials are unchanged.",
            details={"status": answer.status},
        )


def _reason(answer: Answer) -> dict[str, str]:
    """The error's name (RFC 6749, 5.2), if the answer is of that form: `invalid_grant` alone says that the grant has ended."""
    body = _decoded(answer)
    reason = body.get("error") if isinstance(body, dict) else None
    return {"oauth_error": reason[:40]} if isinstance(reason, str) else {}


def _decoded(answer: Answer) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_oauth(credential: Credential) -> TypeIs[OAuth]:
    return hasattr(credential, "access_token")


def _ends_soon(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at - datetime.now(UTC) < timedelta(seconds=constants.TOKEN_RENEW_BEFORE_S)
