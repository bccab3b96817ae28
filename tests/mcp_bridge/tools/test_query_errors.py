"""Errors of the `query` tool: the message names the fault, the next step fixes it, and fifty sessions are all served."""

import asyncio
from typing import Any

import pytest
from mcp.client import Client

from tests.mcp_bridge.stage import ask, http_client, on_http, refused

# What was sent, the error's code, and words of message and next step.
MISTAKES = [
    ("select case_type, count(*) from cases", "query_failed", ['"cases.case_type"', "GROUP BY cases.case_type"]),
    ("select * from cases group by case_type", "query_failed", ['"cases.case_id"']),
    ("select c.case_type, count(*) from cases c", "query_failed", ['"c.case_type"']),
    ("select sum(case_name) from cases", "unknown_function", ["sum(text)", "case_name"]),
    ("select avg(c.case_name) from cases c", "unknown_function", ["avg needs numbers", "c.case_name"]),
    ('select * from cases where case_type = "child"', "unknown_column", ["'child'", "single quotes"]),
    ("select * from raw_cases", "unknown_relation", ["Did you mean cases"]),
    ("select * from stg_case", "unknown_relation", ["Did you mean cases"]),
    ("select * from Case_Childs", "unknown_relation", ["case_child"]),
    ("select casename from cases", "unknown_column", ["case_name"]),
    ("select c.casename from cases c", "unknown_column", ["case_name"]),
    ("select x.case_name from cases c", "unknown_relation", ['"x"', "there are: c"]),
    ("select count(distinct case_type, owner_id) from cases", "unknown_function", ["count(DISTINCT (a, b))"]),
    ("select current_date - case_name from cases", "unknown_function", ["date", "safe_date(column)"]),
    ("select case_name + interval '1 day' from cases", "unknown_function", ["cast"]),
    ("select date_trunc('month', case_name) from cases", "unknown_function", ["date_trunc needs a date"]),
    ("select case_name - case_type from cases", "unknown_function", ["is text"]),
    ("select case_name from cases where date_opened > case_name", "unknown_function", ["cast the text"]),
    ("select case_name::int from cases", "query_failed", ["does not read as that type"]),
    ("select ifnull(case_name, '') from cases", "function_not_allowed", ["coalesce"]),
    ("select year(date_opened) from cases", "function_not_allowed", ["extract(year"]),
    ("select group_concat(case_name) from cases", "function_not_allowed", ["string_agg"]),
    ("select lenght(case_name) from cases", "function_not_allowed", ["length"]),
    ("select case_name from cases limit 5, 10", "syntax_error", ["OFFSET"]),
    ("select `case_name` from cases", "syntax_error", ['"']),
    ("select case_name, from cases", "syntax_error", ["comma"]),
    ("select * from cases where case_type == 'child'", "operator_not_allowed", ["="]),
    ("select * from cases where count(*) > 1", "query_failed", ["HAVING"]),
    ("select case_id from cases, case_child", "query_failed", ['"case_id" is ambiguous', ".case_id"]),
    ("select case when true then case_name else 1 end from cases where case_name", "query_failed", ["::text"]),
    ("select case_name from cases where case_name", "query_failed", ["condition is needed"]),
    ("select (select case_name from cases)", "query_failed", ["LIMIT 1"]),
    ("select case_name ->> 'a' from cases", "unknown_function", ["::jsonb"]),
    ("select round(1.5::float8, 1)", "unknown_function", ["::numeric"]),
    ("select (case_name).regclassin from cases", "unknown_column", ["no column"]),
    ("select strpos(repeat('a', 20000000), 'b' || repeat('a', 60000))", "too_costly", ["left(x, 1000)"]),
]


def test_every_mistake_is_answered_with_what_mends_it(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> list[tuple[str, dict[str, Any]]]:
        return [(sql, await refused(client, "query", sql=sql)) for sql, _code, _words in MISTAKES]

    for (sql, error), (_sql, code, words) in zip(on_http(bridge_url, token, work), MISTAKES, strict=True):
        assert error["code"] == code, (sql, error)
        said = f"{error['message']} {error['next_step']}"
        assert [word for word in words if word not in said] == [], (sql, said)
        assert '"?"' not in said, sql


MENDED = [
    "select case_type, count(*) from cases group by cases.case_type",
    "select count(distinct (case_type, owner_id)) from cases",
    "select * from cases where case_type = 'child'",
    "select current_date - safe_date(dob::text) from case_child",
    "select sum(safe_numeric(case_name)), min(safe_timestamptz(case_name)) from cases",
    "select coalesce(case_name, ''), extract(year from date_opened), length(case_name) from cases",
    "select round(1.5::float8::numeric, 1)",
    "select (c).case_name, (c.*).case_type from cases c",
]


def test_what_the_next_step_says_works(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> list[int]:
        return [(await ask(client, "query", sql=sql))["row_count"] for sql in MENDED]

    assert all(on_http(bridge_url, token, work))


NESTED = {
    "brackets": "[" * 90_000,
    "brackets of a subscript": "select a" + "[1" * 5_000,
    "parentheses": "select " + "(" * 5_000 + "1" + ")" * 5_000,
    "arrays": "select " + "array[" * 2_500 + "1" + "]" * 2_500,
    "braces": "select '" + "{" * 90_000 + "'",
    "signs": "select " + "- " * 7_000 + "1",
    "nots": "select " + "not " * 4_000 + "true",
    "cases": "select " + "case when true then " * 700 + "1" + " end" * 700,
    "subselects": "select " + "(select " * 2_000 + "1" + ")" * 2_000,
    "in from": "select * from " + "(select * from " * 1_000 + "cases" + ") q" * 1_000,
    "operators": "select " + "1+" * 8_000 + "1",
    "concatenations": "select " + "''||" * 4_000 + "''",
    "conjunctions": "select " + "true and " * 1_700 + "true",
    "casts": "select 1" + "::int" * 3_000,
    "dots": "select a" + ".a" * 8_000,
    "unions": "select 1" + " union select 1" * 1_000,
    "joins": "select 1 from cases" + " join cases on true" * 800,
    "withs": "with a as (" * 1_000 + "select 1" + ") select 1" * 1_000,
    "is null": "select 1" + " is null" * 1_900,
    "collations": "select 'a'" + ' collate "C"' * 1_300,
    "at time zone": "select now()" + " at time zone 'utc'" * 800,
    "quotes": "'" * 90_000,
    "comments": "/*" * 45_000,
    "jsonb": "select '" + "[" * 16_000 + "'::jsonb",
    "likes": "select 'a'" + " like 'a'" * 1_700,
}


@pytest.mark.parametrize("statement", NESTED.values(), ids=NESTED.keys())
def test_depth_and_length_are_refused_in_order(bridge_url: str, token: str, statement: str) -> None:
    async def work(client: Client) -> dict[str, Any]:
        result = await client.call_tool("query", {"sql": statement})
        assert (await ask(client, "query", sql="select 1"))["rows"] == [[1]]
        return dict(result.structured_content or {})

    answer = on_http(bridge_url, token, work)
    if not answer["success"]:
        error = answer["error"]
        assert error["code"] in {"too_long", "too_complex", "too_costly", "syntax_error", "unsupported_syntax", "query_failed",
                                 "too_expensive", "unknown_relation", "unknown_column", "unknown_function"}, error  # fmt: skip
        assert error["next_step"]


def test_fifty_sessions_on_one_tenant_are_all_served(bridge_url: str, token: str) -> None:
    """Each with one query after the other, over connections of their own."""

    async def session() -> list[list[list[int]]]:
        async with http_client(bridge_url, token) as client:
            return [(await ask(client, "query", sql="select count(*) from cases"))["rows"] for _ in range(3)]

    async def main() -> list[list[list[list[int]]]]:
        return await asyncio.gather(*(session() for _ in range(50)))

    assert asyncio.run(main()) == [[[[3]]] * 3] * 50
