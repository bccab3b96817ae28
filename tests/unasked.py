"""A provider that never calls a server, for tenants in tests that load nothing."""

from typing import Any

from explorer.providers.base import Access
from explorer.providers.commcare.provider import CommCare


class Unasked(CommCare):
    """CommCare with an access check that always finds a tenant with this title."""

    def __init__(self, title: str = "A project") -> None:
        self._title = title

    def verify_access(self, *_: Any, **__: Any) -> Access:
        return Access("user@example.org", self._title)
