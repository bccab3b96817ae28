"""The errors of the SQL path: refused before the database (`QueryRejected`) or failed in it (`QueryFailed`).

Both help an agent to correct the statement (position, likely names). They contain nothing that it did not already know: no
server hint, detail or context, no connection parameter, no name of another tenant.
"""

from typing import Any

from explorer.core.errors import ExplorerError


class _CodedError(ExplorerError):
    """An `ExplorerError` whose code is chosen per instance, from the closed set that the subclass documents."""

    def __init__(self, code: str, message: str, *, next_step: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, next_step=next_step, details=details)
        self.__dict__["code"] = code  # the base declares a class constant; here one class has several codes

    @property
    def position(self) -> int | None:
        """1-based character position in the caller's text, if known."""
        position: int | None = self.details.get("position")
        return position

    @property
    def did_you_mean(self) -> list[str]:
        """Likely names, best first. Only names that the caller may see."""
        names: list[str] = self.details.get("did_you_mean", [])
        return names


class QueryRejected(_CodedError):
    """The statement may not run. It never reached the database.

    Codes: `empty`, `syntax_error`, `too_long`, `too_complex`, `invalid_text`, `multiple_statements`, `not_a_select`,
    `locking`, `select_into`, `data_modifying_cte`, `parameter`, `unknown_relation`, `reserved_name`,
    `function_not_allowed`, `type_not_allowed`, `operator_not_allowed`, `collation_not_allowed`, `system_column`,
    `unsupported_syntax`, `unknown_column`, `text_search_configuration`, `too_costly`,
    `personal_data_refused`, `personal_data_masked`.
    """


class QueryFailed(_CodedError):
    """The database refused or stopped the statement. `details["sqlstate"]` is PostgreSQL's own code, if the caller may
    know it.

    Codes: `query_failed`, `syntax_error`, `unknown_column`, `unknown_relation`, `unknown_function`, `timeout`,
    `too_expensive`, `busy`, `slow_down`, `database_unavailable`, `cell_too_large`.
    """

    @property
    def sqlstate(self) -> str | None:
        state: str | None = self.details.get("sqlstate")
        return state


def place(text: str, offset: int) -> dict[str, int]:
    """`{position, line, column}` (all 1-based, in characters) of the 0-based character `offset` in `text`."""
    offset = min(max(offset, 0), len(text))
    before = text[:offset]
    return {"position": offset + 1, "line": before.count("\n") + 1, "column": offset - (before.rfind("\n") + 1) + 1}
