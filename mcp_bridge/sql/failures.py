"""What does the database's error mean for the caller? From SQLSTATE and message to a `QueryFailed` that gives nothing
away.

Only PostgreSQL's primary message is passed on, and only of classes that speak about the caller's own statement and
values. Hint, detail and context are read here for likely names and never returned: they quote rows and names.
"""

import re

import psycopg

from mcp_bridge.sql.errors import QueryFailed, place

_MESSAGE_CHARS = 300
# Missing, forbidden and foreign must look alike: the difference would tell which schemas exist.
_UNKNOWN_RELATION = frozenset({"42P01", "42501", "3F000", "3D000", "42P02"})
# Classes whose primary messages speak of the statement and its values: data exceptions, cardinality, syntax and
# semantics, unsupported.
_TOLD_CLASSES = ("21", "22", "42", "0A")
_TOO_EXPENSIVE = ("53100", "53200", "53400", "54")
_BUSY = frozenset({"53300", "57P03", "55P03", "40001", "40P01"})
_LIKELY_COLUMNS = re.compile(r'the column "((?:[^"]|"")+)"(?: or the column "((?:[^"]|"")+)")?')


def out_of_time(timeout_s: float) -> QueryFailed:
    return QueryFailed(
        "timeout",
        f"The statement did not give a row within {timeout_s:g} s and was stopped on the server.",
        next_step="Filter earlier, aggregate less, or read fewer rows; check joins for a missing condition.",
        details={"sqlstate": "57014", "timeout_s": timeout_s},
    )


def failure(error: Exception, text: str, shift: int) -> QueryFailed:
    """`QueryFailed` for what psycopg raised while the server read `text` behind `shift` characters of our own."""
    if not isinstance(error, psycopg.Error):
        return _unavailable() if isinstance(error, TimeoutError) else _generic(None)
    state = error.sqlstate
    if state is None:
        return _generic(None) if isinstance(error, psycopg.DataError) else _unavailable()
    if state in _UNKNOWN_RELATION:
        return QueryFailed(
            "unknown_relation",
            "The statement names a table, view or function that does not exist.",
            next_step="List the tables of this tenant to see their names.",
        )
    if state.startswith(_TOO_EXPENSIVE):
        return QueryFailed(
            "too_expensive",
            "The statement needs more memory, disk or depth than one query may use.",
            next_step="Filter or aggregate earlier, and avoid building very large values, sorts and distincts.",
            details={"sqlstate": state},
        )
    if state in _BUSY:
        return QueryFailed(
            "busy",
            "The tables or connections are in use.",
            next_step="Try again in a few seconds.",
            details={"sqlstate": state},
        )
    if state.startswith(("08", "57P", "28")):
        return _unavailable()
    if not state.startswith(_TOLD_CLASSES):
        return _generic(state)
    return _told(error, state, text, shift)


def _told(error: psycopg.Error, state: str, text: str, shift: int) -> QueryFailed:
    message = (error.diag.message_primary or "The statement failed").splitlines()[0][:_MESSAGE_CHARS]
    if state.startswith("42"):
        message = _in_callers_spelling(message, text)
    details: dict[str, object] = {"sqlstate": state}
    if (position := error.diag.statement_position) is not None and 0 <= (offset := int(position) - 1 - shift) <= len(
        text
    ):
        details.update(place(text, offset))
    code, next_step = _ADVICE.get(state, ("query_failed", "Correct the statement and send it again."))
    if state == "42703" and (likely := _likely_columns(error)):
        details["did_you_mean"] = likely
        next_step = f"Did you mean {', '.join(likely)}?"
    return QueryFailed(code, f"PostgreSQL refused the statement: {message}.", next_step=next_step, details=details)


_NO_SUCH_VALUE = (
    "Some value does not read as that type, or has no place in it. Use safe_date(x) in place of the cast, or safe_bigint, "
    "safe_numeric, safe_time or safe_timestamptz: they give NULL for a text that is no such thing."
)
_ADVICE = {
    "42601": ("syntax_error", "Correct the statement at the position given and send it again."),
    "42703": ("unknown_column", "Describe the table to see its columns."),
    "42883": ("unknown_function", "Check the function's or operator's argument types; cast the arguments if needed."),
    "42803": ("query_failed", "Add the column to GROUP BY or put it into an aggregate."),
    "42702": ("query_failed", "Write the table's name or alias before the column."),
    "22012": ("query_failed", "Guard the divisor with nullif(x, 0)."),
    "22P02": ("query_failed", _NO_SUCH_VALUE),
    "22003": ("query_failed", _NO_SUCH_VALUE),
    "22007": ("query_failed", _NO_SUCH_VALUE),
    "22008": ("query_failed", _NO_SUCH_VALUE),
}


def _in_callers_spelling(message: str, text: str) -> str:
    """The message with names as the caller wrote them; a quoted name that is nowhere in the text becomes `"?"`."""

    def spelled(found: re.Match[str]) -> str:
        word = found[1] or found[0]
        if word in text:
            return found[0]
        written = re.search(re.escape(word), text, re.IGNORECASE)
        if written:
            return found[0].replace(word, written[0])
        return '"?"' if found[1] else found[0]

    return re.sub(r'"([^"]*)"|\w+', spelled, message)


def _likely_columns(error: psycopg.Error) -> list[str]:
    """The server's own guess. It names only columns of relations that the statement already reads."""
    hint = error.diag.message_hint or ""
    if not hint.startswith("Perhaps you meant"):
        return []
    found = _LIKELY_COLUMNS.search(hint)
    return [name.replace('""', '"') for name in found.groups() if name] if found else []


def _generic(state: str | None) -> QueryFailed:
    return QueryFailed(
        "query_failed",
        "The database could not run the statement.",
        next_step="Simplify the statement; if it fails again, tell the operator.",
        details={"sqlstate": state} if state else None,
    )


def _unavailable() -> QueryFailed:
    return QueryFailed(
        "database_unavailable",
        "The database does not answer.",
        next_step="Try again in a minute; if it stays so, tell the operator.",
    )
