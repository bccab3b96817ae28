"""Why were tables not built? In words: the first cause once, before its consequences."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import psycopg

from explorer.tables.engine.results import TableResult

_MAX_NAMES = 30
_MAX_CAUSES = 5
_MAX_CAUSE_CHARS = 400


def cause_of(error: psycopg.Error) -> str:
    """What the database said, in one line."""
    said = error.diag.message_primary or str(error)
    detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
    return " ".join(f"{said}{detail}".split())[:_MAX_CAUSE_CHARS]


def because_of(roots: Mapping[str, str]) -> str:
    """Why a table was not tried. `roots`: the failed tables that it needs, and why they failed."""
    return "not built, because " + "; ".join(
        f"{name} failed: {cause}" for name, cause in list(roots.items())[:_MAX_CAUSES]
    )


def without(raw_tables: Collection[str]) -> str:
    """Why a table was not tried whose raw tables do not exist."""
    names = ", ".join(raw_tables)
    return f"not built: there is no table {names} yet; it comes with the first load of its source"


def summary(results: Iterable[TableResult]) -> str | None:
    """An update's summary of tables that failed; None where none did.

    `2 tables failed: case_child, case_mother: could not extend file ...: No space left on device. 4 more were not built because
    of that: ...`.
    """
    results = list(results)
    failed = [result for result in results if result.verb == "failed"]
    if not failed:
        return None
    by_cause: dict[str, list[str]] = {}
    for result in failed:
        by_cause.setdefault(result.message or "no reason was given", []).append(result.table)
    listed = "; ".join(f"{named(names)}: {cause.rstrip('.')}" for cause, names in list(by_cause.items())[:_MAX_CAUSES])
    more = f"; and {len(by_cause) - _MAX_CAUSES} other causes" if len(by_cause) > _MAX_CAUSES else ""
    text = f"{len(failed)} table{'s' if len(failed) > 1 else ''} failed: {listed}{more}."
    skipped = sorted(result.table for result in results if result.verb == "skipped" and result.roots)
    if skipped:
        were = "were" if len(skipped) > 1 else "was"
        text += f" {len(skipped)} more {were} not built because of that: {named(skipped)}."
    return text


def named(names: Sequence[str], most: int = _MAX_NAMES) -> str:
    """Names for a sentence, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
