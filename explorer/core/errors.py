"""How does the platform report a failure? One typed error per way a user can be wrong.

Every error has a stable `code` (for programs), a `message` (what happened and why) and a `next_step` (what to do now). Subclasses
live beside the code that raises them; this file holds the base and shared classes.
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
        """`{code, message, next_step, details?}`: the shape of errors outside the process."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "next_step": self.next_step}
        if self.details:
            body["details"] = self.details
        return body


class SettingsInvalid(ExplorerError):
    """A setting is unknown or has an unusable value."""

    code = "settings_invalid"


class UnknownTenant(ExplorerError):
    """The tenant does not exist, or the caller may not know it: the error does not distinguish the two."""

    code = "unknown_tenant"


class TransientError(ExplorerError):
    """A server, network or database failed in a way that may pass: a retry is safe."""

    code = "temporarily_unavailable"
