"""How the platform says that something went wrong: one typed error per way a user can be wrong.

Every error has a stable `code` (what programs match on), a `message` (what happened and why) and a `next_step` (what to do now).
Subclasses live beside the code that raises them; this file holds only the base and what several areas share.
"""

from typing import Any


class ExplorerError(Exception):
    """Base of all errors shown to people and agents.

    `details` holds JSON-safe facts (allowed values, SQLSTATE, HTTP status); never secrets, connection strings or tracebacks.
    """

    code: str = "error"

    def __init__(self, message: str, *, next_step: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()

    def as_dict(self) -> dict[str, Any]:
        """`{code, message, next_step, details?}`: the shape in which errors cross process borders."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "next_step": self.next_step}
        if self.details:
            body["details"] = self.details
        return body


class SettingsInvalid(ExplorerError):
    """A setting is unknown or has a value that cannot be used."""

    code = "settings_invalid"


class UnknownTenant(ExplorerError):
    """No such tenant, or none that the caller may know of: the two are not told apart."""

    code = "unknown_tenant"


class TransientError(ExplorerError):
    """Something outside (server, network, database) failed in a way that may pass: safe to try again."""

    code = "temporarily_unavailable"
