"""A provider whose server is not asked: tenants of tests that never load anything."""

from typing import Any

from explorer.providers.base import Access
from explorer.providers.commcare.provider import CommCare


class Unasked(CommCare):
    """CommCare, whose check of access always finds a tenant of this title."""

    def __init__(self, title: str = "A project") -> None:
        self._title = title

    def verify_access(self, *_: Any, **__: Any) -> Access:
        return Access("user@example.org", self._title)
