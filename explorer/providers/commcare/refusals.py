"""What does a refusal of CommCare HQ mean where its status is ambiguous?

The cases are those of the error catalogue in docs/commcare_api.md: only the body tells them apart.
"""

import re

from explorer.http.api import Refusal
from explorer.http.errors import ApiError, CredentialsInvalid, CutOff, PermissionMissing, ServerError
from explorer.providers.commcare.errors import DomainUnknown, NoSubscription

# HQ's answer for a user that does not exist, with status 400.
_NO_SUCH_USER = "the object 'none' has an empty attribute"
_NO_SUCH_CASE = re.compile(r"^case '.*' not found$", re.IGNORECASE | re.DOTALL)


def read(refusal: Refusal) -> ApiError | None:
    """The error of a text that HQ uses for only one case; None for all others."""
    status = refusal.status
    if status == 402 or (status in (401, 403) and _names_plan(refusal.reason)):
        return _no_subscription(refusal)
    if status == 401:
        return _unauthorised(refusal)
    if status in (404, 410):
        return _missing(refusal)
    return None


def is_no_such_record(refusal: Refusal) -> bool:
    """Whether the answer to a request for one record is the API's statement that it does not exist. Other 404s come from a
    proxy, from a route that an older server lacks or for an unknown project space, as a web page or with another text."""
    if refusal.status == 404:
        return not refusal.body.strip() or _NO_SUCH_CASE.match(refusal.reason) is not None
    return refusal.status == 400 and refusal.reason.lower().startswith(_NO_SUCH_USER)


def _names_plan(reason: str) -> bool:
    lower = reason.lower()
    return "subscription" in lower and "access" in lower


def _no_subscription(refusal: Refusal) -> ApiError:
    return refusal.error(
        NoSubscription,
        f"The plan of {refusal.caller} does not include this API{refusal.said}.",
        "Upgrade the project space's plan, or leave it out.",
    )


def _unauthorised(refusal: Refusal) -> ApiError | None:
    lower = refusal.reason.lower()
    if "temporarily cut off" in lower:
        return refusal.error(
            CutOff,
            f"CommCare has cut off API access of {refusal.caller} after too many requests.",
            "Ask CommCare support to enable it again, then start fewer or slower API clients.",
        )
    if "permission to access this api" in lower:
        return refusal.error(
            PermissionMissing,
            f"{refusal.resource}: the server denies access{refusal.said}.",
            "Give the user's role the permission for it, or check that the feature is enabled for the project space.",
        )
    if "maximum password attempts" in lower:
        next_step = "The server has locked the user out after too many wrong passwords: wait, or let an administrator unlock it."
    elif "otp" in lower:
        next_step = "The project space asks for a second factor, which a program does not have: use an API key."
    else:
        return None
    return refusal.error(
        CredentialsInvalid,
        f"{refusal.resource}: the server does not accept the credential{refusal.said}.",
        next_step,
    )


def _missing(refusal: Refusal) -> ApiError | None:
    if b'"error_message"' in refusal.body:
        return refusal.error(
            ServerError,
            f"{refusal.resource}: the server failed inside and answered HTTP 404.",
            "Try again later.",
        )
    if refusal.reason.lower().startswith("the domain"):
        return refusal.error(
            DomainUnknown,
            f"The server knows no project space {refusal.caller.tenant_id!r}.",
            "Check the name, and that it is on this server (www, india and eu are separate).",
        )
    return None
