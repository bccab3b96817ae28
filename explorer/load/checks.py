"""Is what a load reports true? Counts of load, table and server; keys; rejected and missing records."""

from collections.abc import Iterator

from psycopg import sql

from explorer.contract import checks
from explorer.contract.bookkeeping import rejected
from explorer.contract.checks import CheckOutcome, LoadFinding
from explorer.load.raw.table import DELETED_COLUMN
from explorer.load.report import ResourceReport
from explorer.postgres.connections import Login
from explorer.registry import Source


def described(source: Source) -> str:
    """What the check of the raw table compares."""
    return (
        "- `rows_match_api`: the table holds what was walked (an error otherwise), and the walk met as many records as the API"
        " counts (a warning otherwise, because that count may lag behind the data)\n"
        f"- `primary_key_unique`: no two rows share one {source.primary_key} (an error otherwise)\n"
        f"- `no_rows_rejected`: every record that came could be stored; others are in `{rejected.TABLE}`\n"
        "- `missing_rows_are_gone`: rows that a whole read did not bring are proven to be gone and marked; others stay as they"
        " are, and the next load looks again"
    )


def check_load(login: Login, schema: str, source: Source, report: ResourceReport) -> CheckOutcome:
    """The check of the source's raw table. It reads the table only when something was written: otherwise it is as the last load
    left it."""
    rows, duplicates = count_rows(login, schema, source) if report.rows_written else (report.rows_total, 0)
    return check_report(source.name, report, rows=rows, duplicate_rows=duplicates)


def check_report(name: str, report: ResourceReport, *, rows: int, duplicate_rows: int = 0) -> CheckOutcome:
    """Compare the report of the source `name` with the number of `rows` in its table.

    The load's count of the table: after a full extract the records that were read, plus missing ones that are not proven to be
    gone; otherwise the count before, plus the changes. Records that arrive while changes are read are not in the API's count from
    the start: more records than counted are no difference then.
    """
    was_complete = report.status == "loaded" and report.api_total is not None and report.complete
    walked = report.rows_landed + report.rows_missing if was_complete else report.rows_total
    counted = report.window_total if report.status == "loaded" else None
    difference = None if counted is None else report.rows_landed + report.rejected - counted
    differs = ["table vs walked"] if rows != walked else []
    if difference is not None and (difference < 0 or (difference and report.api_total is not None)):
        differs.append("walked vs api")
    overlooked = report.rows_missing - report.rows_unproven
    found: dict[LoadFinding, str] = {
        "rows_match_api": f"The counts of {name} do not agree: {', '.join(differs)}." if differs else "",
        "primary_key_unique": f"{duplicate_rows:,} rows of {name} share their key with another."
        if duplicate_rows
        else "",
        "no_rows_rejected": f"{report.rejected:,} records of {name} could not be stored." if report.rejected else "",
        "missing_rows_are_gone": " ".join(_said_of_missing(name, report, overlooked)),
    }
    failing = {each: said for each, said in found.items() if said}
    facts = checks.Load(
        failing=", ".join(failing) or None,
        rows=rows,
        walked=walked,
        compared=counted is not None,
        api_total=counted,
        difference=difference,
        differs=", ".join(differs) or None,
        duplicate_rows=duplicate_rows,
        rows_rejected=report.rejected,
        rejected_reasons=report.rejected_reasons or None,
        rows_marked=report.rows_deleted,
        rows_unproven=report.rows_unproven,
        rows_overlooked=overlooked,
        missing_reason=report.missing_reason or None,
    )
    is_error = rows != walked or duplicate_rows > 0
    return CheckOutcome(checks.LOAD_IS_SOUND, not failing, is_error, facts, " ".join(failing.values()) or None)


def _said_of_missing(name: str, report: ResourceReport, overlooked: int) -> Iterator[str]:
    if report.rows_unproven:
        yield (
            f"{report.rows_unproven:,} records of {name} did not come, and it is not proven that they are gone"
            f" ({report.missing_reason}): they were not marked. The next load that reads everything looks again; when more were"
            " deleted than it may ask for, raise EXPLORER_PROOF_MAX_REQUESTS."
        )
    if overlooked:
        yield f"{overlooked:,} records of {name} did not come, but the server has them when they are asked for alone."


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
