"""What does a refusal of the server mean? Status, headers and body of an answer other than 200 to the error it stands for.

The cases are those of the error catalogue in docs/commcare_api.md: only the body tells the meanings of a status apart.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from explorer_dagster.commcare import settings as constants
from explorer_dagster.commcare.errors import (
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


def to_error(
    status: int, headers: Mapping[str, str], body: bytes, details: dict[str, Any], domain: str
) -> CommCareError:
    """The error that an answer with this status stands for."""
    reason = _reason(body)
    details = {**details, "status": status, **({"reason": reason} if reason else {})}
    name = details["resource"]
    if 300 <= status < 400:
        return _redirect(headers, details)
    if status == 401:
        return _unauthorised(reason, details, domain)
    if status == 403:
        return PermissionMissing(
            f"{name}: the server denies access{_said(reason)}.",
            next_step="Give the user's role the permission for it, or check that the project space's plan includes it.",
            details=details,
        )
    if status == 404:
        return _missing(reason, body, details, domain)
    if status == 429:
        return throttled(details, domain, retry_after_s(headers.get("Retry-After")))
    if status >= 500:
        return ServerError(
            f"{name}: the server failed with HTTP {status} on page {details['page']}.",
            next_step="Try again later; what was loaded before is untouched.",
            details=details,
        )
    return RequestRefused(
        f"{name}: the server refused the request with HTTP {status}{_said(reason)}.",
        next_step="Check the resource's endpoint and parameters in the pipeline file against the server's version.",
        details=details,
    )


def throttled(details: dict[str, Any], domain: str, wait_s: float | None) -> Throttled:
    """The allowance is used up, for `wait_s` seconds as far as the server has said."""
    waiting = f" and may come back in {wait_s:.0f} s" if wait_s else ""
    return Throttled(
        f"{details['resource']}: project space {domain!r} has used up its requests{waiting}.",
        next_step="Try again later, or start fewer API clients: all of a project space share one allowance.",
        details={**details, "retry_after_s": wait_s},
    )


def is_retryable(status: int, body: bytes) -> bool:
    """Whether the same request may succeed later. HQ answers some of its own crashes with 404 and `error_message`."""
    return status >= 500 or status == 429 or (status == 404 and b'"error_message"' in body)


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


def _unauthorised(reason: str, details: dict[str, Any], domain: str) -> CommCareError:
    lower = reason.lower()
    if "subscription" in lower:
        return NoSubscription(
            f"The plan of project space {domain!r} does not include this API{_said(reason)}.",
            next_step="Upgrade the project space's plan, or leave it out.",
            details=details,
        )
    if "cut off" in lower:
        return CutOff(
            f"CommCare has cut off API access of project space {domain!r} after too many requests.",
            next_step="Ask CommCare support to enable it again, then start fewer or slower API clients.",
            details=details,
        )
    if "permission" in lower:
        return PermissionMissing(
            f"{details['resource']}: the server denies access{_said(reason)}.",
            next_step="Give the user's role the permission for it, or check that the feature is enabled for the project space.",
            details=details,
        )
    if lower == "not authorized":
        return DomainUnknown(
            f"There is no project space {domain!r} for this user on the server.",
            next_step="Check the name and the server, and that the user is a member.",
            details=details,
        )
    return CredentialsInvalid(
        f"The server does not accept the credentials{_said(reason)}.",
        next_step="Check user name and API key (its expiry and allowed addresses too), and that they belong to this server.",
        details=details,
    )


def _missing(reason: str, body: bytes, details: dict[str, Any], domain: str) -> CommCareError:
    if b'"error_message"' in body:
        return ServerError(
            f"{details['resource']}: the server failed inside and answered HTTP 404.",
            next_step="Try again later.",
            details=details,
        )
    if "domain" in reason.lower():
        return DomainUnknown(
            f"The server knows no project space {domain!r}.",
            next_step="Check the name, and that it is on this server (www, india and eu are separate).",
            details=details,
        )
    return ResourceUnknown(
        f"{details['resource']}: the server has nothing at this address (HTTP 404).",
        next_step="Check the server's address and project space; an old installation may lack this resource.",
        details=details,
    )


def _redirect(headers: Mapping[str, str], details: dict[str, Any]) -> NotCommCare:
    try:
        target = urlsplit(headers.get("Location", ""))
        host = target.hostname
    except ValueError:
        target, host = urlsplit(""), None
    where = f" to {host}" if host else " to a login page" if "login" in target.path else ""
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
