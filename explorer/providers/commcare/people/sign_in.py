"""How do people sign in at CommCare HQ, which project spaces are theirs, and what does their role there allow?

HQ shows its own consent page, on which the person picks project spaces; the token's scope then has `domain:<name>` for each. Its
tokens also write, so they are treated like passwords: they go to their own server only.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from explorer.catalog import OAuthCredential, ProviderTokens
from explorer.core.settings import Settings
from explorer.http.address import Server
from explorer.http.authorization import TokenEndpoint
from explorer.http.client import ApiClient
from explorer.http.errors import CredentialsInvalid, PermissionMissing, ResourceUnknown, ResponseMalformed
from explorer.http.wire import Wire
from explorer.providers.base import LoadedRoles, Role, SignedInPerson, SignInApp, SignInEnded
from explorer.providers.commcare import settings as constants
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.people.endpoints import first_known

# A person waits for the answer.
_TIMEOUT_S, _ATTEMPTS, _RETRY_AFTER_S = 10.0, 2, 2.0
_DOMAIN_SCOPE = "domain:"
_GRANT_ENDED = "invalid_grant"
_MAX_PAGES = 100


class CommCarePeople:
    """Implements `explorer.providers.base.PeopleSignIn`."""

    loaded_roles = LoadedRoles("raw_web_users", "web_user_id")

    def authorize_url(self, app: SignInApp, *, redirect_uri: str, state: str, challenge: str) -> str:
        params = {
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": redirect_uri,
            "scope": constants.SIGN_IN_SCOPE,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{app.server}{constants.AUTHORIZE_PATH}?{urlencode(params)}"

    def exchange(
        self, app: SignInApp, *, code: str, verifier: str, redirect_uri: str, settings: Settings
    ) -> ProviderTokens:
        server = Server.parse(app.server, constants.SERVICE.name, constants.SERVICE.example_url)
        wire = Wire(server, _impatient(settings))
        try:
            granted = TokenEndpoint(server, constants.SERVICE, wire).exchanged(
                client_id=app.client_id,
                client_secret=app.client_secret,
                code=code,
                verifier=verifier,
                redirect_uri=redirect_uri,
            )
        finally:
            wire.close()
        return ProviderTokens(granted.access_token, granted.refresh_token, granted.expires_at, granted.scope)

    def look_up(
        self,
        app: SignInApp,
        tokens: ProviderTokens,
        *,
        settings: Settings,
        keep: Callable[[ProviderTokens], object] = lambda tokens: None,
    ) -> SignedInPerson:
        with self._client(app, "", tokens, settings, keep) as client:
            subject, username = _identity(client)
            return SignedInPerson(subject, username, _allowed(_project_spaces(client), tokens.scope))

    def told_role(
        self,
        app: SignInApp,
        tokens: ProviderTokens,
        external_id: str,
        *,
        settings: Settings,
        member: str | None = None,
        keep: Callable[[ProviderTokens], object] = lambda tokens: None,
    ) -> Role | None:
        with self._client(app, external_id, tokens, settings, keep) as client:
            if member is None:
                return self.ask_role(client, *_identity(client))
            found = [row for row in _web_users(client, member) if str(row.get("username")).lower() == member.lower()]
            return self.role_of(found[0]) if found else None

    @contextmanager
    def _client(
        self,
        app: SignInApp,
        domain: str,
        tokens: ProviderTokens,
        settings: Settings,
        keep: Callable[[ProviderTokens], object],
    ) -> Iterator[CommCareClient]:
        """A client that acts as the person."""
        credential = OAuthCredential(
            client_id=app.client_id,
            client_secret=app.client_secret,
            token_url=f"{app.server}{constants.SERVICE.token_path}",
            access_token=tokens.access,
            refresh_token=tokens.refresh or "",
            expires_at=tokens.expires_at if tokens.refresh else None,
        )

        def refresh(stale_access_token: str, renew: Callable[[OAuthCredential], OAuthCredential]) -> OAuthCredential:
            # Each renewal uses the refresh token up: another one in this session starts from its successor.
            nonlocal credential
            credential = renew(credential)
            keep(ProviderTokens(credential.access_token, credential.refresh_token, credential.expires_at, tokens.scope))
            return credential

        with (
            _ended_where_refused(),
            CommCareClient(
                app.server, domain, credential, settings=_impatient(settings), refresh=refresh, max_attempts=_ATTEMPTS
            ) as client,
        ):
            yield client

    def role_of(self, record: Mapping[str, Any]) -> Role | None:
        permissions, is_admin = record.get("permissions"), record.get("is_admin")
        if not isinstance(permissions, Mapping) or not isinstance(is_admin, bool):
            return None
        name = str(record.get("role") or ("Admin" if is_admin else "no role"))
        if record.get("is_active_in_domain") is False:
            return Role(name, is_admin=False, sees_all=True, may_read=False, may_edit=False)
        may_edit = permissions.get("edit_data") is True
        return Role(
            name,
            is_admin,
            # A missing answer counts as a restriction.
            sees_all=is_admin or permissions.get("access_all_locations") is True,
            may_read=is_admin or may_edit or permissions.get("view_reports") is True,
            may_edit=is_admin or may_edit,
        )

    def ask_role(self, client: ApiClient, subject: str, username: str) -> Role | None:
        found = [row for row in _web_users(client, username) if row.get("id") == subject]
        return self.role_of(found[0]) if found else None


def _web_users(client: ApiClient, username: str) -> list[Mapping[str, Any]]:
    """The web users of this name in the client's project space; none when the server does not tell. Raises: ApiError."""
    try:
        body = client.get_json("web-user/v1/", resource="web user", params=[("web_username", username)])
    except (PermissionMissing, ResourceUnknown):
        return []
    rows = body.get("objects") if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise _malformed(client, "web user", "does not list web users")
    return [row for row in rows if isinstance(row, dict)]


@contextmanager
def _ended_where_refused() -> Iterator[None]:
    """Tell the end of a grant from a refusal that has other reasons, such as a wrong secret of the application."""
    try:
        yield
    except CredentialsInvalid as error:
        if error.details.get("oauth_error", _GRANT_ENDED) != _GRANT_ENDED:
            raise
        if error.details.get("status") not in (None, 400, 401):
            raise
        raise SignInEnded(
            "CommCare HQ does not accept this sign-in any more: the account was deactivated, or the consent taken back.",
            next_step="Sign in again.",
        ) from None


def _identity(client: CommCareClient) -> tuple[str, str]:
    body, _ = first_known(client, constants.IDENTITY_ENDPOINTS, "identity")
    subject, username = (body.get("id"), body.get("username")) if isinstance(body, dict) else (None, None)
    if not isinstance(subject, str) or not subject or not isinstance(username, str) or not username:
        raise _malformed(client, "identity", "does not say who the person is")
    return subject, username


def _project_spaces(client: CommCareClient) -> dict[str, str]:
    """All of the person's project spaces, name to title. An answer that may lack some is refused: it would take them away."""
    found: dict[str, str] = {}
    total: Any = None
    for body in _pages(client):
        for row in body["objects"]:
            name, title = (row.get("domain_name"), row.get("project_name")) if isinstance(row, dict) else (None, None)
            if not isinstance(name, str) or not name:
                raise _malformed(client, "user_domains", "names a project space in another form")
            found[name] = title if isinstance(title, str) and title else name
        total = body["meta"].get("total_count")
    if isinstance(total, int) and total != len(found):
        raise _malformed(client, "user_domains", f"lists {len(found)} project spaces and counts {total}")
    return found


def _pages(client: CommCareClient) -> Iterator[dict[str, Any]]:
    """The list in one answer (newer servers) or in pages (older)."""
    resource = "user_domains"
    body, endpoint = first_known(client, constants.USER_DOMAINS_ENDPOINTS, resource)
    for page in range(1, _MAX_PAGES):
        if (
            not isinstance(body, dict)
            or not isinstance(body.get("objects"), list)
            or not isinstance(body.get("meta"), dict)
        ):
            raise _malformed(client, resource, "does not list the person's project spaces")
        yield body
        link = body["meta"].get("next")
        if not isinstance(link, str) or not link:
            return
        params = client.next_params(link, endpoint=endpoint, resource=resource, page=page, of_tenant=False)
        body = client.get_json(endpoint, resource=resource, params=params, of_tenant=False)
    raise _malformed(client, resource, "lists project spaces without an end")


def _allowed(spaces: Mapping[str, str], scope: str) -> dict[str, str]:
    """The project spaces that the person picked. Some versions of HQ list the others too; without a pick all are allowed."""
    picked = {word.removeprefix(_DOMAIN_SCOPE) for word in scope.split() if word.startswith(_DOMAIN_SCOPE)}
    return {name: title for name, title in spaces.items() if not picked or name in picked}


def _impatient(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "http_timeout_s": min(settings.http_timeout_s, _TIMEOUT_S),
            "http_max_retry_after_s": min(settings.http_max_retry_after_s, _RETRY_AFTER_S),
        }
    )


def _malformed(client: ApiClient, resource: str, what: str) -> ResponseMalformed:
    return ResponseMalformed(
        f"{client.server.host} {what}.",
        provider=constants.SERVICE.name,
        next_step="Try again; if it lasts, the server has changed its API.",
        details={"resource": resource},
    )
