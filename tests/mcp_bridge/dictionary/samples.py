"""A small dictionary whose every text wants to be more than a text."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from mcp_bridge.dictionary.contents import ColumnEntry, Dictionary, OptionEntry, TableEntry

ATTACK = '<img src=x onerror="top.attacked=1"></td><script>top.attacked=1</script> | [a](javascript:b) `c` {{ d }}\n# e'
FORMULA = '=HYPERLINK("http://127.0.0.1:9","go")'


def column(name: str, **facts: Any) -> ColumnEntry:
    empty: dict[str, Any] = dict.fromkeys(field.name for field in fields(ColumnEntry))
    empty |= {"type": "text", "is_key": False, "description": "", "translations": {}, "options": (), "made_from": ()}
    return ColumnEntry(**(empty | {"examples": (), "unfit": 0} | facts | {"name": name}))


WATER = column(
    "water",
    description=ATTACK,
    question="Source of water",
    translations={"en": "Source of water", "fr": "Source d'eau", "hi": "पानी का स्रोत", 'x" onclick="a': "odd"},
    question_type="Select",
    options=(
        OptionEntry("tap", "Piped water", {"fr": "Robinet", "hi": "नल"}),
        OptionEntry(ATTACK, FORMULA, {"fr": ATTACK}),
    ),
    made_from=("cases.properties / water",),
    examples=("tap", ATTACK),
    null_share=0.004,
    distinct=2,
)
TABLE = TableEntry(
    name="case_household",
    kind="case_type",
    description="One row per household.",
    rows=1200,
    as_of=datetime(2026, 5, 1, 8, 30, tzinfo=UTC),
    freshness="fresh",
    retired=None,
    row_word="household",
    origin=(("case type", ATTACK), ("apps", "Register")),
    made_from=("cases", "raw_cases"),
    failing_checks=("values_fit (4 found)",),
    columns=(
        column("case_id", is_key=True, description="Identifier of the case.", null_share=0.0, distinct=1200),
        column("head_name", personal="Name.", question="Name of the head", null_share=0.0),
        WATER,
        column("balance", type="bigint", least="-5", greatest="10", unfit=4, null_share=0.5),
    ),
    queries=(("How many households?", "SELECT count(*)\nFROM case_household -- </pre><b>"),),
)
DICTIONARY = Dictionary(
    tenant="demo:water",
    title=ATTACK,
    made_at=datetime(2026, 5, 2, tzinfo=UTC),
    policy="refuse",
    tables=(TABLE, replace(TABLE, name="cases", columns=TABLE.columns[:1], queries=(), as_of=None, rows=None)),
    warnings=("Checks fail on: case_household.",),
)
