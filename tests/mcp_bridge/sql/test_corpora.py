"""Hostile and honest statements against validator, executor and database, together and each alone."""

import asyncio
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mcp_bridge.sql import QueryFailed, QueryRejected, ValidatedQuery
from mcp_bridge.sql.validation import fallback
from mcp_bridge.sql.validation.rules import Rules, check_text
from tests.mcp_bridge.sql.clinic import OWN_TYPES, RELATIONS, Clinic

HERE = Path(__file__).parent
GENERATED = {
    "@long_list": "select 1 where 1 in (" + "1," * 20_000 + "1)",
    "@deep_functions": "select " + "abs(" * 1_500 + "1" + ")" * 1_500,
    "@long_text": "select '" + "x" * 17_000 + "'",
    "@deep_subqueries": "select * from (" * 700 + "select 1" + ") q" * 700,
}


def corpus(name: str) -> list[dict[str, Any]]:
    lines = (HERE / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


HOSTILE = corpus("hostile")
REFUSED = [case for case in HOSTILE if "expect" not in case]
BOUNDED = [case for case in HOSTILE if case.get("expect") == "bounded"]
LEGIT = corpus("legit")


def secrets_in(answer: str, statement: str, clinic: Clinic) -> list[str]:
    return [word for word in ("RIVAL_SECRET", clinic.rival) if word in answer and word not in statement]


def test_the_corpora_are_as_large_as_promised() -> None:
    assert len(HOSTILE) >= 150
    assert len(LEGIT) >= 80


def test_no_hostile_statement_is_accepted(clinic: Clinic) -> None:
    accepted = []
    for case in REFUSED:
        statement = GENERATED.get(case["sql"]) or clinic.fill(case["sql"])
        try:
            clinic.validate(statement)
            accepted.append((case["id"], statement))
        except QueryRejected as refusal:
            assert refusal.next_step  # noqa: PT017
            answer = json.dumps(refusal.as_dict())
            assert secrets_in(answer, statement, clinic) == [], case["id"]
    assert accepted == []


def test_behind_a_blind_validator_nothing_leaks(clinic: Clinic) -> None:
    """Each hostile statement goes straight to executor and database: no foreign value, no foreign name, no change."""
    before = clinic.raw("select count(*), sum(weight_kg) from visits")
    skip = {
        "attribute",
        "typeof_oracle",
        "reg_types",
    }  # casts and output functions have no privilege: the validator's alone
    texts = [
        GENERATED.get(case["sql"]) or clinic.fill(case["sql"]) for case in REFUSED if case["technique"] not in skip
    ]
    executor = clinic.executor(timeout_s=2.0)

    async def leaked_by(text: str) -> list[str]:
        try:
            result = await executor.run(ValidatedQuery(text, frozenset()))
            answer = json.dumps([result.columns, result.rows])
        except QueryFailed as failed:
            answer = json.dumps(failed.as_dict())
        return [f"{word}: {text}" for word in secrets_in(answer, text, clinic)]

    async def all_leaks() -> list[list[str]]:
        return await asyncio.gather(*(leaked_by(text) for text in texts if "\x00" not in text))

    assert [found for found in asyncio.run(all_leaks()) if found] == []
    assert clinic.raw("select count(*), sum(weight_kg) from visits") == before


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: case["id"])
def test_a_bomb_ends_within_its_bounds(clinic: Clinic, case: dict[str, Any]) -> None:
    started = time.monotonic()
    try:
        result = clinic.run(case["sql"], timeout_s=1.5, max_rows=100, max_bytes=100_000)
        assert result.row_count <= 100
        assert len(json.dumps(result.rows)) < 200_000
    except QueryFailed as failed:
        assert failed.code in {"timeout", "too_expensive", "query_failed"}  # noqa: PT017
    assert time.monotonic() - started < 20, "the watchdog did not end it"
    assert clinic.run("select 1").rows == [[1]]


def same(raw: Any, ours: Any) -> bool:
    if isinstance(raw, Decimal):
        return Decimal(str(ours)) == raw
    if isinstance(raw, int | float | bool | dict | type(None)):
        return bool(json.loads(json.dumps(ours)) == raw)
    if isinstance(raw, list | tuple) and isinstance(ours, list):
        return len(raw) == len(ours) and all(same(a, b) for a, b in zip(raw, ours, strict=True))
    return isinstance(ours, str | dict | list)


@pytest.mark.parametrize("case", LEGIT, ids=lambda case: case["id"])
def test_an_honest_statement_gives_what_it_gives_without_us(clinic: Clinic, case: dict[str, Any]) -> None:
    statement = clinic.fill(case["sql"])
    result = clinic.run(statement)
    raw = clinic.raw(statement)
    assert result.row_count == len(raw)
    assert result.truncated is None
    for raw_row, row in zip(raw, result.rows, strict=True):
        assert len(raw_row) == len(row) == len(result.columns)
        for a, b in zip(raw_row, row, strict=True):
            assert same(a, b), (a, b)


def test_the_fallback_accepts_no_hostile_statement(clinic: Clinic) -> None:
    accepted = []
    for case in REFUSED:
        statement = GENERATED.get(case["sql"]) or clinic.fill(case["sql"])
        try:
            _fallback(clinic, statement)
            accepted.append((case["id"], statement))
        except QueryRejected:
            pass
    assert accepted == []


def test_the_fallback_still_serves_plain_questions(clinic: Clinic) -> None:
    served = []
    for case in LEGIT:
        try:
            query = _fallback(clinic, clinic.fill(case["sql"]))
        except QueryRejected:
            continue
        assert query.tables == clinic.validate(clinic.fill(case["sql"])).tables, case["id"]
        served.append(case["id"])
    assert len(served) >= len(LEGIT) // 3


def _fallback(clinic: Clinic, statement: str) -> ValidatedQuery:
    check_text(statement)
    rules = Rules(statement, frozenset({clinic.schema}), {clinic.schema: RELATIONS}, OWN_TYPES)
    end = fallback.check_statement(statement, rules).end
    return ValidatedQuery(statement[:end], frozenset(rules.tables))
