"""Who is this user, which project spaces do they have, and may they read this one, and all of it? Checked before anything is
made."""

from collections.abc import Iterator
from typing import Any

from explorer.core.settings import Settings
from explorer.http.authorization import Credential, Refresh
from explorer.http.errors import (
    ApiError,
    PermissionMissing,
    ResourceUnknown,
    WrongServer,
)
from explorer.providers.base import Access, Person, Role
from explorer.providers.commcare import settings as constants
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.errors import DomainUnknown, PartOfDomain
from explorer.providers.commcare.people.endpoints import first_known
from explorer.providers.commcare.people.sign_in import CommCarePeople

_MAX_DOMAIN_PAGES = 1000


def verify_access(
    server: str, domain: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
) -> Access:
    """Check who the user is, whether the project space is theirs, whether its API may be used, and whether it shows them all.

    Raises:
        ApiError: WrongServer, Unreachable, CredentialsInvalid, DomainUnknown, NoSubscription, CutOff, PermissionMissing,
            PartOfDomain or Throttled, each with a next step.
    """
    with _client_with_few_retries(server, domain, credential, settings, refresh) as client:
        subject, username = _identity(client)
        spaces = _project_names(client)
        _probe(client, domain, is_member=domain in spaces)
        # Only who may read the list of web users is told a role.
        role = CommCarePeople().ask_role(client, subject, username)
        if role is not None:
            refuse_part(role, username, domain)
        return Access(username, spaces.get(domain) or domain, sees_all=role is not None)


def refuse_part(role: Role, username: str, domain: str) -> None:
    """Raises: PartOfDomain: the user's role does not see all locations."""
    if not role.sees_all:
        raise PartOfDomain(
            f"In project space {domain!r} the role of {username} sees some locations only: the tables would be a part of it.",
            provider=constants.SERVICE.name,
            next_step="Use the API key of a user whose role may access all locations.",
            details={"role": role.name},
        )


def look_up_person(
    server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
) -> Person:
    """Ask the server who the user is and which project spaces it lists for them.

    Raises:
        ApiError: WrongServer, Unreachable, CredentialsInvalid or Throttled, each with a next step.
    """
    with _client_with_few_retries(server, "", credential, settings, refresh) as client:
        return _person(client)


def _client_with_few_retries(
    server: str, domain: str, credential: Credential, settings: Settings, refresh: Refresh | None
) -> CommCareClient:
    """A client with only two attempts, since a person waits for the answer."""
    attempts = min(2, settings.http_max_attempts)
    return CommCareClient(server, domain, credential, settings=settings, refresh=refresh, max_attempts=attempts)


def _person(client: CommCareClient) -> Person:
    """Never complete: the server does not list spaces whose plan is uncertain."""
    _, username = _identity(client)
    return Person(username=username, tenants=_project_names(client), is_complete=False)


def _identity(client: CommCareClient) -> tuple[str, str]:
    """The user's id and name."""
    body, _ = _known(client, constants.IDENTITY_ENDPOINTS, "identity")
    subject, username = (body.get("id"), body.get("username")) if isinstance(body, dict) else (None, None)
    if not isinstance(username, str) or not username:
        raise _not_commcare(client, "does not say who the user is")
    return str(subject or ""), username


def _project_names(client: CommCareClient) -> dict[str, str]:
    """Listed project spaces, name to title."""
    found: dict[str, str] = {}
    for row in _domain_rows(client):
        name = row.get("domain_name") if isinstance(row, dict) else None
        if isinstance(name, str):
            title = row.get("project_name")
            found[name] = title if isinstance(title, str) else name
    return found


def _domain_rows(client: CommCareClient) -> Iterator[Any]:
    """All rows, whether the server sends them in one answer (newer) or in pages of 20 (older)."""
    resource = "user_domains"
    body, endpoint = _known(client, constants.USER_DOMAINS_ENDPOINTS, resource)
    seen: set[tuple[tuple[str, str], ...]] = set()
    for page in range(1, _MAX_DOMAIN_PAGES):
        if not isinstance(body, dict) or not isinstance(body.get("objects"), list):
            raise _not_commcare(client, "does not list the user's project spaces")
        yield from body["objects"]
        meta = body.get("meta")
        link = meta.get("next") if isinstance(meta, dict) else None
        if not isinstance(link, str) or not link or not body["objects"]:
            return
        params = tuple(client.next_params(link, endpoint=endpoint, resource=resource, page=page, of_tenant=False))
        if params in seen:
            return
        seen.add(params)
        body = client.get_json(endpoint, resource=resource, params=params, of_tenant=False)


def _known(client: CommCareClient, endpoints: tuple[str, ...], resource: str) -> tuple[Any, str]:
    """As `first_known`, of a server that may be no CommCare."""
    try:
        return first_known(client, endpoints, resource)
    except ResourceUnknown:
        raise _not_commcare(client, f"has no {resource} resource") from None


def _probe(client: CommCareClient, domain: str, *, is_member: bool) -> None:
    """The cheapest request inside the project space: it decides what the list of project spaces leaves open."""
    unknown: ApiError | None = None
    for endpoint in constants.PROBE_ENDPOINTS:
        try:
            client.get_json(endpoint, resource="access check", params=[("limit", "1")])
        except ResourceUnknown as error:
            unknown = error
            continue
        except PermissionMissing as error:
            if is_member:
                raise PermissionMissing(
                    f"The user's role in project space {domain!r} has no API access.",
                    provider=constants.SERVICE.name,
                    next_step="Let an administrator of the project space turn on API access for the role.",
                    details=error.details,
                ) from None
            raise _unknown_domain(client, domain, error) from None
        return
    raise _unknown_domain(client, domain, unknown) from None


def _unknown_domain(client: CommCareClient, domain: str, cause: ApiError | None) -> DomainUnknown:
    return DomainUnknown(
        f"There is no project space {domain!r} for this user on {client.server.host}.",
        provider=constants.SERVICE.name,
        next_step="Check the name and the server (www, india and eu are separate), and that the user is a member.",
        details=cause.details if cause else {},
    )


def _not_commcare(client: CommCareClient, what: str) -> WrongServer:
    return WrongServer(
        f"{client.server.host} {what}: it is not a CommCare HQ server.",
        provider=constants.SERVICE.name,
        next_step="Check the server's address, e.g. https://www.commcarehq.org.",
    )
