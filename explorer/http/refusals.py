"""What does a refusal mean? Maps status, headers and body of an answer other than 200 to an error.

The provider interprets it first (`Api.read`); this module handles what means the same everywhere.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from explorer.http import constants
from explorer.http.api import Api, Caller, Refusal
from explorer.http.errors import (
    ApiError,
    CredentialsInvalid,
    PermissionMissing,
    RequestRefused,
    ResourceUnknown,
    ServerError,
    Throttled,
    WrongServer,
)

# Statuses that do not change on a retry (RFC 9110, 15.5.11 and 15.6; RFC 6585, 6).
_FINAL = frozenset({410, 501, 505, 511})
_LOGIN_PATH = re.compile(r"log-?in|sign-?in|/sso|saml|/auth|accounts/", re.IGNORECASE)
_LOGIN_PAGE = re.compile(rb"<title>[^<]{0,200}(?:log|sign)[ -]?(?:in|on)|type=[\"']?password", re.IGNORECASE)


def read_refusal(refusal: Refusal, api: Api) -> ApiError:
    """The error of a refusal."""
    return api.read(refusal) or _reading(refusal.status)(refusal)


def is_retryable(refusal: Refusal, error: ApiError) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, ServerError | Throttled) and refusal.status not in _FINAL


def _reading(status: int) -> Callable[[Refusal], ApiError]:
    if 300 <= status < 400:
        return _redirect
    if status in (407, 511):
        return _proxy
    if status >= 500 or status == 408:
        return _server_error
    known = {
        401: _credentials_invalid, 402: _denied, 403: _denied, 404: _missing, 410: _missing, 429: _throttled,
    }  # fmt: skip
    return known.get(status, _refused)


def _credentials_invalid(refusal: Refusal) -> ApiError:
    caller = refusal.caller
    return refusal.error(
        CredentialsInvalid,
        f"{refusal.resource}: the server does not accept the credential{refusal.said}.",
        f"Check {caller.service.credential} (its expiry and allowed addresses too), that they belong to this server, and that"
        f" the user is a member of {caller.service.unit} {caller.tenant_id!r}.",
    )


def _denied(refusal: Refusal) -> ApiError:
    return refusal.error(
        PermissionMissing,
        f"{refusal.resource}: the server denies access{refusal.said}.",
        f"Give the user's role the permission for it, or check that the {refusal.caller.service.unit}'s plan includes it.",
    )


def _missing(refusal: Refusal) -> ApiError:
    return refusal.error(
        ResourceUnknown,
        f"{refusal.resource}: the server has nothing at this address (HTTP {refusal.status}).",
        f"Check the server's address and {refusal.caller.service.unit}; an old installation may lack this resource.",
    )


def _proxy(refusal: Refusal) -> ApiError:
    return refusal.error(
        WrongServer,
        f"{refusal.resource}: a proxy or the network asks for a sign-in of its own (HTTP {refusal.status}).",
        "Give this machine a way to the server: HTTPS_PROXY may hold the proxy's user, NO_PROXY leaves it out.",
    )


def _throttled(refusal: Refusal) -> ApiError:
    details = {**refusal.request, "status": refusal.status, **({"reason": refusal.reason} if refusal.reason else {})}
    return throttled(details, refusal.caller, retry_after_s(refusal.headers.get("Retry-After")))


def _refused(refusal: Refusal) -> ApiError:
    return refusal.error(
        RequestRefused,
        f"{refusal.resource}: the server refused the request with HTTP {refusal.status}{refusal.said}.",
        "Check the resource's endpoint and parameters in the pipeline file against the server's version.",
    )


def _server_error(refusal: Refusal) -> ApiError:
    wait_s = retry_after_s(refusal.headers.get("Retry-After"))
    until = datetime.now(UTC) + timedelta(seconds=wait_s) if wait_s else None
    when = f" and says that it is back at {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
    return refusal.error(
        ServerError,
        f"{refusal.resource}: the server failed with HTTP {refusal.status} on page {refusal.request['page']}{when}.",
        "Try again later; what was loaded before is untouched.",
        **({"retry_after_s": wait_s} if wait_s else {}),
    )


def _redirect(refusal: Refusal) -> ApiError:
    service = refusal.caller.service
    try:
        target = urlsplit(refusal.headers.get("Location", ""))
        host = target.hostname
    except ValueError:
        target, host = urlsplit(""), None
    where = f" to {host}" if host else ""
    if not _LOGIN_PATH.search(target.path):
        return refusal.error(
            WrongServer,
            f"{refusal.resource}: the server redirects{where}; redirects are not followed.",
            f"If {host} is the right server, use its address." if host else "Check the address.",
        )
    if host in (None, refusal.caller.server):
        return refusal.error(
            CredentialsInvalid,
            f"{refusal.resource}: the server redirects to its login page: it does not take the credential here.",
            f"Check {service.credential}, and that this address belongs to the API: pages for people take no key.",
        )
    return refusal.error(
        WrongServer,
        f"{refusal.resource}: the server redirects{where} to a login page; redirects are not followed.",
        f"A portal stands in front of the server: use an address that leads to {service.product} itself.",
    )


def throttled(details: dict[str, Any], caller: Caller, wait_s: float | None, *, was_asked: bool = True) -> Throttled:
    """The allowance is used up, for `wait_s` seconds if the server said so. `was_asked`: this answer says so, not an earlier
    one."""
    until = (datetime.now(UTC) + timedelta(seconds=wait_s)).replace(microsecond=0) if wait_s else None
    when = f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
    said = "has used up its requests; the server wants none" if was_asked else "had used up its requests; none are sent"
    lifted = (
        f" `{caller.lifted_by}` lets them out again at once, for instance after the limit was raised."
        if caller.lifted_by
        else ""
    )
    unit = caller.service.unit
    return Throttled(
        f"{details['resource']}: {caller} {said}{when or ' for now'}.",
        provider=caller.service.name,
        next_step=f"Try again then, or start fewer API clients: all of a {unit} share one allowance.{lifted}",
        details={
            **details,
            "server": caller.server,
            caller.service.unit_field: caller.tenant_id,
            "retry_after_s": wait_s,
            **({"username": caller.username} if caller.username else {}),
            **({"until": until.isoformat()} if until else {}),
        },
    )


def is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer that is no JSON is a web page."""
    start = body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<?xml") and b"<html" not in body[:2000].lower():
        return False
    is_called_so = "text/html" in headers.get("Content-Type", "").lower() and bool(start)
    return start.startswith(b"<") or is_called_so


def web_page(body: bytes, details: dict[str, Any], provider: str) -> WrongServer:
    """The error of a web page with status 200."""
    where = f"{details['resource']}: page {details['page']}"
    if _LOGIN_PAGE.search(body[:100_000]):
        return WrongServer(
            f"{where} is a login page, not data.",
            provider=provider,
            next_step="The server did not take the credential as one for its API, or a portal stands in front of it. Check the"
            " tenant's server address, and that the key belongs to that server.",
            details=details,
        )
    return WrongServer(
        f"{where} is a web page, not data.",
        provider=provider,
        next_step="Check the tenant's server address: a login or maintenance page may stand in front of it.",
        details=details,
    )


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, at most a week: integer, float or HTTP date; None when missing or unreadable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), constants.RETRY_AFTER_MAX_S)
