"""Names and addresses of the CommCare API that the platform relies on, and why.

Settings that an operator may change are in `explorer.core.settings`.
"""

from explorer.http.api import Service

SERVICE = Service(
    name="commcare",
    product="CommCare HQ",
    unit="project space",
    unit_field="domain",
    credential="user name and API key",
    credential_parts="user name and key",
    example_url="https://www.commcarehq.org",
    token_path="/oauth/token/",  # noqa: S106 - a path
    refresh_lifetime="15 days",
)

# Global resources: the user, and their project spaces. Installations older than 2024 answer only v0.5.
IDENTITY_ENDPOINTS = ("identity/v1/", "identity/v0.5/")
USER_DOMAINS_ENDPOINTS = ("user_domains/v1/", "user_domains/v0.5/")
# People sign in here. Of HQ's scopes only this one opens its API.
AUTHORIZE_PATH = "/oauth/authorize/"
SIGN_IN_SCOPE = "access_apis"
# The cheapest request to a project space: it needs API access and no other permission, and one row is a small answer.
PROBE_ENDPOINTS = ("lookup_table/v1/", "case/v2/")
