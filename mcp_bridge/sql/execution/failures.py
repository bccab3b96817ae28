"""Turns the database's SQLSTATE and message into a `QueryFailed` that gives nothing away.

Only PostgreSQL's primary message is passed on, and only for classes that are about the caller's own statement and values.
Hint, detail and context are read here for likely names and never returned, because they quote rows and names.
"""

import re

import psycopg

from mcp_bridge.sql.errors import QueryFailed, place
from mcp_bridge.sql.execution import hints
from mcp_bridge.sql.validation.hints import closest
from mcp_bridge.sql.validation.validator import ValidatedQuery

_MESSAGE_CHARS = 300
_CODES = {"42601": "syntax_error", "42703": "unknown_column", "42883": "unknown_function"}
# Missing, forbidden and foreign objects of any kind must look alike: a difference would show which schemas exist.
_UNKNOWN = frozenset({"42P01", "42501", "42704", "3F000", "3D000", "42P02"})
# Classes whose primary messages are about the statement and its values: data exceptions, cardinality, syntax and
# semantics, unsupported.
_SHOWN_CLASSES = ("21", "22", "42", "0A")
_TOO_EXPENSIVE = ("53100", "53200", "53400", "54")
_BUSY = frozenset({"53300", "57P03", "55P03", "40001", "40P01"})
_LIKELY_COLUMNS = re.compile(r'the column "((?:[^"]|"")+)"(?: or the column "((?:[^"]|"")+)")?')
_MISSING_COLUMN = re.compile(r"column \"?([^\"]+?)\"? does not exist")
# A function or operator with a schema that the caller wrote before it.
_OF_A_SCHEMA = re.compile(r'(?:function|operator does not exist:) "?(?!(?:pg_catalog|casts)\.)\w+"?\.')
# libpq gives no SQLSTATE for errors while a session begins.
_FULL = ("too many connections for role", "too many clients already", "remaining connection slots are reserved")


def is_full(error: BaseException) -> bool:
    """Whether the server refused a session because its limit or the role's is reached."""
    return isinstance(error, psycopg.Error) and (
        error.sqlstate == "53300" or any(words in str(error) for words in _FULL)
    )


def out_of_time(timeout_s: float) -> QueryFailed:
    return QueryFailed(
        "timeout",
        f"The statement did not give a row within {timeout_s:g} s and was stopped on the server.",
        next_step="Filter earlier, aggregate less, or read fewer rows; check joins for a missing condition.",
        details={"sqlstate": "57014", "timeout_s": timeout_s},
    )


def failure(error: Exception, query: ValidatedQuery, shift: int) -> QueryFailed:
    """`QueryFailed` for an error of psycopg. In the text that the server read, `shift` of our characters precede `query`."""
    if not isinstance(error, psycopg.Error):
        return _unavailable() if isinstance(error, TimeoutError) else _generic(None)
    state = error.sqlstate
    if state is None:
        return _generic(None) if isinstance(error, psycopg.DataError) else _unavailable()
    if state in _UNKNOWN or (state == "42883" and _OF_A_SCHEMA.search(error.diag.message_primary or "")):
        return QueryFailed(
            "unknown_relation",
            "The statement names a table, view, function, type or other object that does not exist here.",
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
    if not state.startswith(_SHOWN_CLASSES):
        return _generic(state)
    return _with_message(error, state, query, shift)


def _with_message(error: psycopg.Error, state: str, query: ValidatedQuery, shift: int) -> QueryFailed:
    """The failure with PostgreSQL's own message, position and likely names."""
    original = (error.diag.message_primary or "The statement failed").splitlines()[0][:_MESSAGE_CHARS]
    message = _in_known_names(original, query) if state.startswith("42") else original
    details: dict[str, object] = {"sqlstate": state}
    position, at = error.diag.statement_position, None
    if position is not None and 0 <= (offset := int(position) - 1 - shift - len(query.before)) <= len(query.text):
        details.update(place(query.text, offset))
        at = offset
    next_step = hints.next_step(state, original, message, query, at)
    if state == "42703":
        missing = _MISSING_COLUMN.search(original)
        name = missing[1].rpartition(".")[2] if missing else ""
        likely = _likely_columns(error) or closest(name, query.columns)
        if likely:
            details["did_you_mean"] = likely
        next_step = hints.unknown_column(name, query.text, query.columns, likely) or next_step
    return QueryFailed(
        _CODES.get(state, "query_failed"),
        f"PostgreSQL refused the statement: {message}.",
        next_step=next_step,
        details=details,
    )


def _in_known_names(message: str, query: ValidatedQuery) -> str:
    """The message with only the names that the caller wrote, and the columns and tables that the statement reads.

    PostgreSQL puts the table before a column (`"cases.case_type"`) even if the caller did not, so each part is checked alone.
    A quoted name without a known part becomes `"?"`.
    """

    def known(word: str) -> str | None:
        if not word:
            return None
        if word in query.text or word in query.columns or word in query.tables:
            return word
        written = re.search(re.escape(word), query.text, re.IGNORECASE)
        return written[0] if written else None

    def spelled(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0] if found[0].isupper() else known(found[0]) or found[0]
        whole = known(found[1])
        parts = [whole] if whole else [part for part in map(known, found[1].split(".")) if part]
        return '"' + (".".join(parts) or "?") + '"'

    return re.sub(r'"([^"]*)"|\w+', spelled, message)


def _likely_columns(error: psycopg.Error) -> list[str]:
    """The server's own suggestions. They are only columns of relations that the statement already reads."""
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
