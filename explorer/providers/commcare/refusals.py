"""What does a refusal of the server mean? Status, headers and body of an answer other than 200 to the error it stands for.

The cases are those of the error catalogue in docs/commcare_api.md: only the body tells the meanings of a status apart.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from explorer.providers.commcare import settings as constants
from explorer.providers.commcare.errors import (
    CommCareError,
    CredentialsInvalid,
    CutOff,
    DomainUnknown,
    NoSubscription,
    NotCommCare,
    PermissionMissing,
    RequestRefused,
    ResourceUnknown,
    ServerError,
    Throttled,
)

_REASON_MAX_CHARS = 200
# The whole status: a server of this kind will not do otherwise the next time (RFC 9110, 15.6; RFC 6585, 6).
_FINAL_5XX = frozenset({501, 505, 511})
_LOGIN_PATH = re.compile(r"log-?in|sign-?in|/sso|saml|/auth|accounts/", re.IGNORECASE)
_LOGIN_PAGE = re.compile(rb"<title>[^<]{0,200}(?:log|sign)[ -]?(?:in|on)|type=[\"']?password", re.IGNORECASE)
# HQ's answer for a user that does not exist, with status 400.
_NO_SUCH_USER = "the object 'none' has an empty attribute"
_NO_SUCH_CASE = re.compile(r"^case '.*' not found$", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Who:
    """Whose requests are refused: `server` (host), project space, `username` of an API key, and `lifted_by`, the command that
    ends a pause which is kept for all processes."""

    server: str
    domain: str
    username: str | None = None
    lifted_by: str = ""

    def __str__(self) -> str:
        return f"project space {self.domain!r} on {self.server}" + (f" (user {self.username})" if self.username else "")


def to_error(status: int, headers: Mapping[str, str], body: bytes, details: dict[str, Any], who: Who) -> CommCareError:
    """The error that an answer with this status stands for."""
    reason = _reason(body)
    details = {**details, "status": status, **({"reason": reason} if reason else {})}
    name = details["resource"]
    if 300 <= status < 400:
        return _redirect(headers, details, who)
    if status == 401:
        return _unauthorised(reason, details, who)
    if status == 402 or (status == 403 and _names_plan(reason)):
        return _no_subscription(reason, details, who)
    if status == 403:
        return PermissionMissing(
            f"{name}: the server denies access{_said(reason)}.",
            next_step="Give the user's role the permission for it, or check that the project space's plan includes it.",
            details=details,
        )
    if status in (404, 410):
        return _missing(reason, body, details, who.domain)
    if status in (407, 511):
        return NotCommCare(
            f"{name}: a proxy or the network asks for a sign-in of its own (HTTP {status}).",
            next_step="Give this machine a way to the server: HTTPS_PROXY may hold the proxy's user, NO_PROXY leaves it out.",
            details=details,
        )
    if status == 429:
        return throttled(details, who, retry_after_s(headers.get("Retry-After")))
    if status >= 500 or status == 408:
        return _server_error(status, headers, details)
    return RequestRefused(
        f"{name}: the server refused the request with HTTP {status}{_said(reason)}.",
        next_step="Check the resource's endpoint and parameters in the pipeline file against the server's version.",
        details=details,
    )


def throttled(details: dict[str, Any], who: Who, wait_s: float | None, *, was_asked: bool = True) -> Throttled:
    """The allowance is used up, for `wait_s` seconds as far as the server has said. `was_asked`: by this very answer, not by an
    earlier one."""
    until = (datetime.now(UTC) + timedelta(seconds=wait_s)).replace(microsecond=0) if wait_s else None
    when = f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
    said = "has used up its requests; the server wants none" if was_asked else "had used up its requests; none are sent"
    lifted = (
        f" `{who.lifted_by}` lets them out again at once, for instance after the limit was raised."
        if who.lifted_by
        else ""
    )
    return Throttled(
        f"{details['resource']}: {who} {said}{when or ' for now'}.",
        next_step=f"Try again then, or start fewer API clients: all of a project space share one allowance.{lifted}",
        details={
            **details,
            "server": who.server,
            "domain": who.domain,
            "retry_after_s": wait_s,
            **({"username": who.username} if who.username else {}),
            **({"until": until.isoformat()} if until else {}),
        },
    )


def is_retryable(status: int, body: bytes) -> bool:
    """Whether the same request may succeed later. HQ answers some of its own crashes with 404 and `error_message`."""
    if status == 404:
        return b'"error_message"' in body
    return status in (408, 429) or (status >= 500 and status not in _FINAL_5XX)


def is_no_such_record(status: int, body: bytes) -> bool:
    """Whether this answer to the question for one record is the API's own word that there is none, and no other 404: those come
    from a proxy, from a route that an older server lacks or for a project space that is unknown, as a web page or with another
    text."""
    if status == 404:
        return not body.strip() or _NO_SUCH_CASE.match(_reason(body)) is not None
    return status == 400 and _reason(body).lower().startswith(_NO_SUCH_USER)


def is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer that is no JSON is a page for people."""
    start = body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<?xml") and b"<html" not in body[:2000].lower():
        return False
    is_called_so = "text/html" in headers.get("Content-Type", "").lower() and bool(start)
    return start.startswith(b"<") or is_called_so


def web_page(body: bytes, details: dict[str, Any]) -> NotCommCare:
    """A page for people came with status 200."""
    where = f"{details['resource']}: page {details['page']}"
    if _LOGIN_PAGE.search(body[:100_000]):
        return NotCommCare(
            f"{where} is a login page, not data.",
            next_step="The server did not take the credential as one for its API, or a portal stands in front of it. Check the"
            " tenant's server address, and that the key belongs to that server.",
            details=details,
        )
    return NotCommCare(
        f"{where} is a web page, not data.",
        next_step="Check the tenant's server address: a login or maintenance page may stand in front of it.",
        details=details,
    )


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, a week at most: integer, float or HTTP date; None when absent or unreadable."""
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


def _names_plan(reason: str) -> bool:
    lower = reason.lower()
    return "subscription" in lower and "access" in lower


def _no_subscription(reason: str, details: dict[str, Any], who: Who) -> NoSubscription:
    return NoSubscription(
        f"The plan of {who} does not include this API{_said(reason)}.",
        next_step="Upgrade the project space's plan, or leave it out.",
        details=details,
    )


def _unauthorised(reason: str, details: dict[str, Any], who: Who) -> CommCareError:
    """401: the credential was not accepted, unless the text is one that HQ keeps for something else."""
    lower = reason.lower()
    if _names_plan(reason):
        return _no_subscription(reason, details, who)
    if "temporarily cut off" in lower:
        return CutOff(
            f"CommCare has cut off API access of {who} after too many requests.",
            next_step="Ask CommCare support to enable it again, then start fewer or slower API clients.",
            details=details,
        )
    if "permission to access this api" in lower:
        return PermissionMissing(
            f"{details['resource']}: the server denies access{_said(reason)}.",
            next_step="Give the user's role the permission for it, or check that the feature is enabled for the project space.",
            details=details,
        )
    next_step = (
        "Check user name and API key (its expiry and allowed addresses too), that they belong to this server, and that the user"
        f" is a member of project space {who.domain!r}."
    )
    if "maximum password attempts" in lower:
        next_step = "The server has locked the user out after too many wrong passwords: wait, or let an administrator unlock it."
    elif "otp" in lower:
        next_step = "The project space asks for a second factor, which a program does not have: use an API key."
    return CredentialsInvalid(
        f"{details['resource']}: the server does not accept the credential{_said(reason)}.",
        next_step=next_step,
        details=details,
    )


def _missing(reason: str, body: bytes, details: dict[str, Any], domain: str) -> CommCareError:
    if b'"error_message"' in body:
        return ServerError(
            f"{details['resource']}: the server failed inside and answered HTTP 404.",
            next_step="Try again later.",
            details=details,
        )
    if reason.lower().startswith("the domain"):
        return DomainUnknown(
            f"The server knows no project space {domain!r}.",
            next_step="Check the name, and that it is on this server (www, india and eu are separate).",
            details=details,
        )
    return ResourceUnknown(
        f"{details['resource']}: the server has nothing at this address (HTTP {details['status']}).",
        next_step="Check the server's address and project space; an old installation may lack this resource.",
        details=details,
    )


def _server_error(status: int, headers: Mapping[str, str], details: dict[str, Any]) -> ServerError:
    wait_s = retry_after_s(headers.get("Retry-After"))
    until = datetime.now(UTC) + timedelta(seconds=wait_s) if wait_s else None
    when = f" and says that it is back at {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
    return ServerError(
        f"{details['resource']}: the server failed with HTTP {status} on page {details['page']}{when}.",
        next_step="Try again later; what was loaded before is untouched.",
        details={**details, **({"retry_after_s": wait_s} if wait_s else {})},
    )


def _redirect(headers: Mapping[str, str], details: dict[str, Any], who: Who) -> CommCareError:
    location = headers.get("Location", "")
    try:
        target = urlsplit(location)
        host = target.hostname
    except ValueError:
        target, host = urlsplit(""), None
    where = f" to {host}" if host else ""
    if _LOGIN_PATH.search(target.path):
        if host in (None, who.server):
            return CredentialsInvalid(
                f"{details['resource']}: the server redirects to its login page: it does not take the credential here.",
                next_step="Check user name and API key, and that this address belongs to the API: pages for people take no key.",
                details=details,
            )
        return NotCommCare(
            f"{details['resource']}: the server redirects{where} to a login page; redirects are not followed.",
            next_step="A portal stands in front of the server: use an address that leads to CommCare HQ itself.",
            details=details,
        )
    return NotCommCare(
        f"{details['resource']}: the server redirects{where}; redirects are not followed.",
        next_step=f"If {host} is the right server, use its address." if host else "Check the address.",
        details=details,
    )


def _reason(body: bytes) -> str:
    """The server's own sentence, if it gave one: `{"error": text}`, a JSON list of texts, or short plain text."""
    text = body[:2000].decode("utf-8", "replace").strip()
    if not text or text.startswith("<"):
        return ""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = text
    if isinstance(value, dict):
        value = next((value[key] for key in ("error", "error_message", "errors", "detail") if value.get(key)), "")
    if isinstance(value, list):
        value = "; ".join(part for part in value if isinstance(part, str))
    printable = "".join(c if c.isprintable() else " " for c in value) if isinstance(value, str) else ""
    return " ".join(printable.split())[:_REASON_MAX_CHARS]


def _said(reason: str) -> str:
    return f" ({reason.rstrip('.')})" if reason else ""
