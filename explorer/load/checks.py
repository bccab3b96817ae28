"""Is what a load reports true? Counts of load, table and server; keys; rejected and missing records."""

from collections.abc import Iterator, Mapping

from psycopg import sql

from explorer.contract import checks
from explorer.contract.bookkeeping import rejected
from explorer.contract.checks import CheckOutcome
from explorer.load.raw.table import DELETED_COLUMN
from explorer.load.report import ResourceReport
from explorer.postgres.connections import Login
from explorer.registry import Source


def described(source: Source) -> Mapping[str, str]:
    """Every check of a raw table, with its description."""
    return {
        checks.COUNTS_MATCH: "The table holds what was walked: an error otherwise. The walk met as many records as the API"
        " counts: a warning otherwise, because that count may lag behind the data.",
        checks.KEYS_UNIQUE: f"No two rows share one {source.primary_key}.",
        checks.NONE_REJECTED: f"Every record that came could be stored; others are in `{rejected.TABLE}`.",
        checks.MISSING_GONE: "Rows that a whole read did not bring are proven to be gone and marked. Others stay as they"
        " are, and the next load looks again.",
    }


def check_load(login: Login, schema: str, source: Source, report: ResourceReport) -> Iterator[CheckOutcome]:
    """All checks. They read the table only when something was written; otherwise the last load's checks still hold."""
    written = report.rows_new + report.rows_changed + report.rows_deleted
    rows, duplicates = count_rows(login, schema, source) if written else (report.rows_total, 0)
    yield check_counts(report, rows)
    yield CheckOutcome(checks.KEYS_UNIQUE, duplicates == 0, True, checks.Duplicates(duplicate_rows=duplicates))
    facts = checks.Rejected(rows_rejected=report.rejected, reasons=report.rejected_reasons)
    yield CheckOutcome(checks.NONE_REJECTED, report.rejected == 0, False, facts)
    yield check_missing(report, source.name)


def check_counts(report: ResourceReport, rows: int) -> CheckOutcome:
    """Compares three counts: the table's, the load's and the API's. `differs` says which do not agree.

    The load's count of the table: after a full extract the records that were read, plus missing ones that are not proven to be
    gone; otherwise the count before, plus the changes. `compared` is False where the API gave no count. Records that arrive
    while changes are read are not in the count from the start: more records than counted are no difference then.
    """
    was_whole = report.status == "loaded" and report.api_total is not None and report.complete
    walked = report.rows_landed + report.rows_missing if was_whole else report.rows_total
    differs = ["table vs walked"] if rows != walked else []
    compared, difference = report.status == "loaded" and report.window_total is not None, None
    if report.status == "loaded" and report.window_total is not None:
        difference = report.rows_landed + report.rejected - report.window_total
        if difference < 0 or (difference and report.api_total is not None):
            differs.append("walked vs api")
    facts = checks.Counts(
        rows=rows,
        walked=walked,
        compared=compared,
        api_total=report.window_total if compared else None,
        difference=difference,
        differs=", ".join(differs) or None,
    )
    return CheckOutcome(checks.COUNTS_MATCH, not differs, rows != walked, facts)


def check_missing(report: ResourceReport, name: str) -> CheckOutcome:
    """Whether all rows that a full extract did not return are proven to be gone."""
    said = []
    if report.rows_unproven:
        said.append(
            f"{report.rows_unproven:,} records of {name} did not come, and it is not proven that they are gone"
            f" ({report.missing_reason}): they were not marked. The next load that reads everything looks again; when more were"
            " deleted than it may ask for, raise EXPLORER_PROOF_MAX_REQUESTS."
        )
    overlooked = report.rows_missing - report.rows_unproven
    if overlooked:
        said.append(
            f"{overlooked:,} records of {name} did not come, but the server has them when they are asked for alone."
        )
    facts = checks.Missing(
        rows_marked=report.rows_deleted,
        rows_unproven=report.rows_unproven,
        rows_overlooked=overlooked,
        reason=report.missing_reason or None,
    )
    return CheckOutcome(checks.MISSING_GONE, not said, False, facts, " ".join(said) or None)


def count_rows(login: Login, schema: str, source: Source) -> tuple[int, int]:
    """Rows that are not marked as deleted, and how many of all rows share their key with another.

    A unique index rules duplicates out; looking for them would sort the whole table. As two queries both counts come from
    indexes and not from the rows, which are a hundred times as large.
    """
    table, key = sql.Identifier(schema, source.table), sql.Identifier(source.primary_key)
    unique = (
        "select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
        " where i.indrelid = %s::regclass and i.indisunique and i.indisvalid and i.indnkeyatts = 1 and i.indpred is null"
        " and a.attname = %s"
    )
    with login.connect() as connection:
        name = table.as_string(connection)
        is_unique = connection.execute(unique, [name, source.primary_key]).fetchone() is not None
        duplicates = sql.SQL("0") if is_unique else sql.SQL("count(*) - count(distinct {})").format(key)
        row = connection.execute(
            sql.SQL(
                "select count(*) - (select count(*) from {table} where {deleted} is not null), {duplicates} from {table}"
            ).format(deleted=sql.Identifier(DELETED_COLUMN), duplicates=duplicates, table=table)
        ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)
