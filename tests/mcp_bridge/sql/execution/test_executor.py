"""The form of results, and that nothing runs on after the caller is gone."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from explorer.postgres.connections import Login
from mcp_bridge.sql import Executor, QueryFailed, QueryLimits, QueryRejected, QueryResult, ValidatedQuery
from mcp_bridge.sql.validation import fallback
from mcp_bridge.sql.validation.rules import Rules
from tests.mcp_bridge.sql.clinic import RELATIONS, Clinic


def value(clinic: Clinic, expression: str) -> Any:
    return clinic.run(f"select {expression}").rows[0][0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("9007199254740991", 9007199254740991),
        ("9007199254740993", "9007199254740993"),
        ("-7::int2", -7),
        ("12.50", 12.5),
        ("0.1::numeric + 0.2", 0.3),
        ("3.14159265358979323846264338", "3.14159265358979323846264338"),
        ("'NaN'::numeric", "NaN"),
        ("'-Infinity'::float8", "-Infinity"),
        ("1.5::float8", 1.5),
        ("'1e300'::float8", 1e300),
        ("true", True),
        ("null::int", None),
        ("timestamptz '2024-05-01 10:00+02'", "2024-05-01T08:00:00+00:00"),
        ("timestamp '2024-05-01 10:00:00.123'", "2024-05-01T10:00:00.123"),
        ("date '12024-01-01'", "12024-01-01"),
        ("timestamptz 'infinity'", "infinity"),
        ("date '0044-03-15 BC'", "0044-03-15 BC"),
        ("timestamp '0044-03-15 BC'", "0044-03-15 00:00:00 BC"),
        ("interval '1 day 02:03:04'", "1 day 02:03:04"),
        ("'\\xdeadbeef'::bytea", "\\xdeadbeef"),
        ("array[1, null, 3]", [1, None, 3]),
        ("array[['a', 'b'], ['c,', '\"d']]", [["a", "b"], ["c,", '"d']]),
        ("array['NaN'::float8]", ["NaN"]),
        ("int4range(1, 5)", "[1,5)"),
        ("'{[1,3)}'::int4multirange", "{[1,3)}"),
        ("'ab'::char(4)", "ab  "),
        ("'10.0.0.1'::inet", "10.0.0.1"),
        ("row(1, 'a', null)", {"f1": 1, "f2": "a", "f3": None}),
        ("""'{"a": 12345678901234567890, "b": [1.5, null]}'::jsonb""", {"a": "12345678901234567890", "b": [1.5, None]}),
        ("""'{"a": 1, "a": 2}'::json""", [["a", 1], ["a", 2]]),
        ("""'"\\ud800"'::json""", '"\\ud800"'),
        ("""('[' || repeat('[', 3000) || repeat(']', 3000) || ']')::json is not null""", True),
        ("'=3:x'", "=3:x"),
        ("''", ""),
    ],
)
def test_values_are_json_without_loss(clinic: Clinic, expression: str, expected: Any) -> None:
    found = value(clinic, expression)
    assert found == expected
    assert type(found) is type(expected)
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


def test_columns_keep_their_order_their_names_and_their_duplicates(clinic: Clinic) -> None:
    result = clinic.run("select 1 as b, 'x'::text as a, 2.5 as b, urgency, array[urgency] as many from visits limit 1")
    assert [c.name for c in result.columns] == ["b", "a", "b", "urgency", "many"]
    assert [c.type for c in result.columns] == ["int4", "text", "numeric", "urgency", "urgency[]"]
    assert result.rows[0][:3] == [1, "x", 2.5]


def test_an_empty_result_still_has_columns_and_types(clinic: Clinic) -> None:
    result = clinic.run(
        "select patient_id, born, tags, urgency from patients join visits using (patient_id) where false"
    )
    assert result.rows == []
    assert result.columns == [("patient_id", "int4"), ("born", "date"), ("tags", "text[]"), ("urgency", "urgency")]


def test_no_columns_are_no_accident(clinic: Clinic) -> None:
    result = clinic.run("select from patients")
    assert (result.columns, result.row_count) == ([], 12)


@pytest.mark.parametrize(("rows", "truncated"), [(49, None), (50, None), (51, "rows")])
def test_exactly_the_limit_is_not_truncated(clinic: Clinic, rows: int, truncated: str | None) -> None:
    result = clinic.run(f"select * from generate_series(1, {rows}) g order by g", max_rows=50)
    assert (result.row_count, result.truncated) == (min(rows, 50), truncated)


def test_bytes_end_a_page_and_the_next_one_goes_on(clinic: Clinic) -> None:
    statement = "select g, repeat('x', 1000) from generate_series(1, 100) g order by g desc"
    seen: list[int] = []
    offset: int | None = 0
    while offset is not None:
        page = clinic.run(statement, offset=offset, max_bytes=20_000, max_cell_bytes=5_000)
        assert len(json.dumps(page.rows)) < 30_000
        seen += [row[0] for row in page.rows]
        offset = page.next_offset
    assert seen == list(range(100, 0, -1))


def test_a_huge_cell_is_cut_and_the_row_stays(clinic: Clinic) -> None:
    result = clinic.run("select 1, repeat('é', 5000000), 'kept'", max_cell_bytes=1000)
    first, cut, last = result.rows[0]
    assert (first, last, result.cells_truncated, result.truncated) == (1, "kept", 1, None)
    assert cut.startswith("ééé")
    assert "10,000,000 bytes" in cut
    assert len(cut) < 1000


def test_a_row_of_a_thousand_wide_cells_stays_bounded(clinic: Clinic) -> None:
    columns = ",".join(["repeat('x', 20000)"] * 600)
    result = clinic.run(f"select {columns}", max_bytes=200_000)
    assert result.row_count == 1
    assert len(json.dumps(result.rows)) < 200_000


def test_rows_that_came_in_time_are_kept(clinic: Clinic) -> None:
    slow = (
        # Long, but without a temporary file that could reach its own limit first.
        "select g, (select count(*) from generate_series(1, g) x, generate_series(1, g) y)"
        " from unnest(array[9, 9, 9, 9, 9, 9, 9, 9, 200000]::bigint[]) g"
    )
    result = clinic.run(slow, timeout_s=3.0)
    assert (result.row_count, result.truncated) == (8, "time")


def test_a_timeout_without_rows_is_an_error(clinic: Clinic) -> None:
    with pytest.raises(QueryFailed) as caught:
        clinic.run("select count(*) from generate_series(1, 100000000)", timeout_s=0.5)
    assert caught.value.as_dict()["code"] == "timeout"


LONG = "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b"


async def _cancel_while_it_runs(clinic: Clinic, backends: Callable[[], int]) -> None:
    task: asyncio.Task[QueryResult] = asyncio.create_task(clinic.executor(timeout_s=60).run(clinic.validate(LONG)))
    while await asyncio.to_thread(backends) == 0:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _until_gone(backends: Callable[[], int]) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(backends):
            await asyncio.sleep(0.05)


def test_a_cancelled_caller_stops_the_server(clinic: Clinic, backends: Callable[[], int]) -> None:
    async def scene() -> None:
        await _cancel_while_it_runs(clinic, backends)
        await _until_gone(backends)

    asyncio.run(scene())


def test_where_no_cancel_request_gets_through_the_backend_ends_too(
    clinic: Clinic, backends: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("the request was lost on the way")

    monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", lost)

    async def scene() -> None:
        await _cancel_while_it_runs(clinic, backends)
        await _until_gone(backends)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "text",
    [
        "select 1; select 2",
        "select 1) q; drop table visits; --",
        "delete from visits returning 1",
        "show all",
        "select 1 into t",
    ],
)
def test_the_database_takes_one_query_and_nothing_else(clinic: Clinic, text: str) -> None:
    with pytest.raises(QueryFailed):
        clinic.run_unvalidated(text)


def test_a_statement_whose_columns_changed_meanwhile_is_read_as_it_is_now(clinic: Clinic) -> None:
    def change(statement: str) -> None:
        with clinic.owner.connect(autocommit=True) as connection:
            connection.execute(f"SET search_path = {clinic.schema}".encode())
            connection.execute(statement.encode())

    async def main() -> list[Any]:
        executor, found = clinic.executor(), list[Any]()
        query = ValidatedQuery("select * from changing", frozenset())
        for statement in (
            "CREATE TABLE changing AS SELECT 1 AS a",
            "ALTER TABLE changing ADD b text DEFAULT 'x'",
            "ALTER TABLE changing ALTER a TYPE numeric(5, 2)",
            "ALTER TABLE changing DROP b",
            "DROP TABLE changing",
        ):
            await asyncio.to_thread(change, statement)
            for _ in range(2):
                try:
                    result = await executor.run(query)
                    found.append(([tuple(column) for column in result.columns], result.rows))
                except QueryFailed as error:
                    found.append(error.as_dict()["code"])
        executor.close()
        return found

    one = [("a", "int4")], [[1]]
    two = [("a", "int4"), ("b", "text")], [[1, "x"]]
    exact = [("a", "numeric(5,2)"), ("b", "text")], [[1, "x"]]
    less = [("a", "numeric(5,2)")], [[1]]
    assert asyncio.run(main()) == [one] * 2 + [two] * 2 + [exact] * 2 + [less] * 2 + ["unknown_relation"] * 2


def test_a_missing_column_is_placed_and_the_likely_one_named(clinic: Clinic) -> None:
    statement = "select patient_id,\n  ful_name from patients"
    with pytest.raises(QueryFailed) as caught:
        clinic.run(statement)
    error = caught.value
    assert (error.as_dict()["code"], error.sqlstate) == ("unknown_column", "42703")
    assert error.position == statement.index("ful_name") + 1
    assert error.did_you_mean == ["patients.full_name"]


def test_runtime_errors_give_postgresqls_message_and_no_detail(clinic: Clinic) -> None:
    with pytest.raises(QueryFailed) as caught:
        clinic.run("select full_name::int from patients order by patient_id")
    assert caught.value.sqlstate == "22P02"
    assert "invalid input syntax for type integer" in caught.value.message
    assert "safe_bigint" in caught.value.next_step
    with pytest.raises(QueryFailed) as zero:
        clinic.run("select 1 / (patient_id - 1) from patients")
    assert "nullif" in zero.value.next_step


def test_casts_that_never_fail_are_there_for_both_parsers_and_nothing_else_of_their_schema(clinic: Clinic) -> None:
    statement = (
        "select safe_bigint('1.2E1'), safe_numeric('1,5'), safe_date(full_name), safe_time('09:30'), safe_boolean('True'),"
        " safe_timestamptz('2026-01-01T10:00:00+05:30'), place_part('12.5  -3.25', 2) from patients limit 1"
    )
    assert clinic.run(statement).rows == [[12, None, None, "09:30:00", True, "2026-01-01T04:30:00+00:00", -3.25]]
    rules = Rules(statement, frozenset({clinic.schema}), {clinic.schema: RELATIONS}, frozenset())
    assert fallback.check_statement(statement, rules).end == len(statement)
    assert clinic.run("select casts.safe_date('2026-01-01')").rows == [["2026-01-01"]]
    for name in (
        "choices('a')",
        "day()",
        "casts.choices('a')",
        "casts.day()",
        "pg_catalog.safe_date('2026-01-01')",
        "casts.lower('A')",
    ):
        with pytest.raises(QueryRejected):
            clinic.run(f"select {name}")
    with pytest.raises(QueryRejected):
        clinic.run("select * from casts.safe_date")


def test_forbidden_foreign_and_absent_relations_are_answered_alike(clinic: Clinic) -> None:
    answers = set()
    for text in (
        f"select * from {clinic.rival}_marts.patients",
        "select * from t_00000000_marts.patients",
        "select * from nothing",
        "table pg_authid",
    ):
        with pytest.raises(QueryFailed) as caught:
            clinic.run_unvalidated(text)
        answers.add(json.dumps(caught.value.as_dict()))
    assert len(answers) == 1


def test_an_absent_server_is_reported_without_its_address() -> None:
    executor = Executor(Login("127.0.0.1", 1, "lake", "someone", "pa55word"), ("s",), QueryLimits())
    with pytest.raises(QueryFailed) as caught:
        asyncio.run(executor.run(ValidatedQuery("select 1", frozenset())))
    answer = json.dumps(caught.value.as_dict())
    assert caught.value.as_dict()["code"] == "database_unavailable"
    assert not any(word in answer for word in ("127.0.0.1", "someone", "pa55word", "lake"))
