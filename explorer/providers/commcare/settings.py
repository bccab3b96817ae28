"""Which names and addresses of the CommCare API the platform relies on, and why.

What an operator may want to change is in `explorer.core.settings` instead.
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

# Global resources: who is calling, and which project spaces they may use. v0.5 is what installations older than 2024 answer.
IDENTITY_ENDPOINTS = ("identity/v1/", "identity/v0.5/")
USER_DOMAINS_ENDPOINTS = ("user_domains/v1/", "user_domains/v0.5/")
# Needs API access and no further permission, and one row is a small answer: the cheapest question a project space answers.
PROBE_ENDPOINTS = ("lookup_table/v1/", "case/v2/")
