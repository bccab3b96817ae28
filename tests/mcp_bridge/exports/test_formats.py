"""Each value comes out of a file as it was in the table, or the file is refused."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from mcp_bridge.exports.formats import PROVENANCE_KEY, ValueNotExact, unique_names, writer
from mcp_bridge.sql import StreamedColumn


def column(name: str, base: str, modifier: int = -1, *, is_array: bool = False) -> StreamedColumn:
    return StreamedColumn(name, base, base, modifier, is_array)


COLUMNS = [
    column("name", "text"),
    column("amount", "numeric"),
    column("price", "numeric", ((10 << 16) | 2) + 4),
    column("at", "timestamptz"),
    column("tags", "text", is_array=True),
    column("doc", "jsonb"),
    column("ok", "bool"),
    column("born", "date"),
    column("big", "int8"),
    column("name", "text"),
]
ROWS: list[tuple[str | None, ...]] = [
    (
        "अ, \"b\"\n=c", "0.33333333333333333333", "1.50", "2026-01-02 03:04:05.123456+00", '["x",null,""]',
        '{"n": 1.10, "t": "\\ud800"}', "t", "2025-05-01", "9223372036854775807", "",
    ),
    (None,) * 10,
]  # fmt: skip


def file_of(format_: str, columns: list[StreamedColumn] = COLUMNS, rows: list[tuple[str | None, ...]] = ROWS) -> bytes:
    made = writer(format_, columns, {"tenant": "demo:one"})
    return made.begin() + made.add(rows) + made.end()


def test_parquet_has_types_nulls_and_provenance() -> None:
    table = pq.read_table(io.BytesIO(file_of("parquet")))
    assert json.loads(table.schema.metadata[PROVENANCE_KEY]) == {"tenant": "demo:one"}
    assert str(table.schema.field("price").type) == "decimal128(10, 2)"
    assert table.schema.names[-1] == "name_2"
    first, nulls = table.to_pylist()
    assert set(nulls.values()) == {None}
    assert first == {
        "name": 'अ, "b"\n=c',
        "amount": Decimal("0.33333333333333333333"),
        "price": Decimal("1.50"),
        "at": datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
        "tags": ["x", None, ""],
        "doc": '{"n": 1.10, "t": "\\ud800"}',
        "ok": True,
        "born": date(2025, 5, 1),
        "big": 9223372036854775807,
        "name_2": "",
    }


def test_json_lines_keep_all_digits_and_tell_null_from_empty() -> None:
    first, nulls = file_of("jsonl").decode().splitlines()
    assert '"amount":0.33333333333333333333' in first
    found = json.loads(first, parse_float=str)
    assert (found["big"], found["tags"], found["name_2"]) == (9223372036854775807, ["x", None, ""], "")
    assert found["at"] == "2026-01-02T03:04:05.123456+00:00"
    assert set(json.loads(nulls).values()) == {None}


def test_csv_is_quoted_where_needed_and_tells_null_from_empty() -> None:
    text = file_of("csv").decode()
    head, first, nulls = csv.reader(io.StringIO(text, newline=""))
    assert head[-1] == "name_2"
    assert first[:3] == ['अ, "b"\n=c', "0.33333333333333333333", "1.50"]
    assert text.endswith(',""\r\n,,,,,,,,,\r\n')
    assert nulls == [""] * 10


@pytest.mark.parametrize(
    "text", ["=1+1", "+91 98", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠a", '=HYPERLINK("http://x")']
)
def test_formulas_of_the_source_are_texts_in_spreadsheets_and_exact_elsewhere(text: str) -> None:
    columns, rows = [column("=cmd", "text"), column("n", "int4")], [(text, "-1")]
    made = writer("csv", columns, {})
    (head, first) = csv.reader(io.StringIO((made.begin() + made.add(rows)).decode(), newline=""))
    assert (head, first) == (["'=cmd", "n"], [f"'{text}", "-1"])
    assert made.formulas == 2
    exact = list(csv.reader(io.StringIO(file_of("csv_exact", columns, rows).decode(), newline="")))
    assert exact == [["=cmd", "n"], [text, "-1"]]
    assert json.loads(file_of("jsonl", columns, rows)) == {"=cmd": text, "n": -1}
    assert pq.read_table(io.BytesIO(file_of("parquet", columns, rows))).to_pylist() == [{"=cmd": text, "n": -1}]


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ("numeric", "NaN"),
        ("numeric", "0." + "0" * 20 + "1"),
        ("date", "infinity"),
        ("timestamptz", "0044-03-15 00:00:00+00 BC"),
    ],
)
def test_what_parquet_cannot_hold_is_refused_with_the_column(base: str, text: str) -> None:
    with pytest.raises(ValueNotExact) as refused:
        file_of("parquet", [column("odd", base)], [(text,)])
    assert refused.value.details == {"column": "odd"}
    assert "jsonl" in refused.value.next_step
    assert text in file_of("jsonl", [column("odd", base)], [(text,)]).decode()


def test_columns_of_one_name_are_numbered() -> None:
    assert unique_names([column(name, "text") for name in ("a", "a_2", "a", "a")]) == ["a", "a_2", "a_3", "a_4"]
