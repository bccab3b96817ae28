"""Data are shown literally: no markup, no emoji, no control characters, nothing cut off."""

import ast
import io
import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from explorer.core.errors import TransientError
from explorer.core.settings import Settings
from explorer_cli.errors import DemoMoved
from explorer_cli.operations import demo
from explorer_cli.operations.meaning import semantics
from explorer_cli.output import escapes, tables
from explorer_cli.output import terminal as output
from explorer_cli.output.progress import SyncProgress
from explorer_cli.platform import display
from explorer_cli.platform.demo_server import DemoServer, save
from explorer_cli.supervision.units import UnitStatus
from tests.explorer_cli.conftest import ROOT

TRICKY = "demo:m:x [red]not red[/red] [link=http://x]:smile: \\[b]"


def test_errors_remarks_and_tables_show_what_they_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(TransientError(TRICKY, next_step=TRICKY, details={"log": [TRICKY]}), as_json=False)
    output.say(("Note", "yellow"), f" {TRICKY}")
    err = capsys.readouterr().err
    assert err.count(TRICKY) == 4
    tables.show_table([TRICKY, "n"], [[TRICKY, 1], [{"k": TRICKY}, None]])
    tables.show_table(["a"], [], empty=TRICKY)
    assert capsys.readouterr().out.count(TRICKY) == 3


def test_data_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_table(["\x1b[31mred"], [["\x1b]0;title\x07 \x9b2J \r over"]])
    assert "\\u009b2J" in capsys.readouterr().out
    output.say("\x1b[2J gone\n\tkept")
    shown = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(shown.out + shown.err)
    assert shown.err.endswith(" gone\n        kept\n") or shown.err.endswith(" gone\n\tkept\n")


HIDDEN = [
    *(chr(code) for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc" and chr(code) not in "\n\t"),
    *"\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062",
    *"\u2063\u2064\u2066\u2067\u2068\u2069\u206a\u206f\u2800\u3164\ufeff\uffa0\ufff9\ufffb\U000e0001\U000e0041\ud800\udfff",
]


def test_what_cannot_be_seen_is_escaped_in_all_that_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for char in HIDDEN:
        text = f"a{char}b"
        written = f"a\\u{ord(char):04x}b" if ord(char) < 0x10000 else f"a\\U{ord(char):08x}b"
        tables.show_table([text], [[text], [{"k": text}]])
        output.say(text)
        output.show_error(TransientError(text, next_step=text, details={"log": [text]}), as_json=False)
        output.write(text)
        shown = capsys.readouterr()
        assert char not in shown.out + shown.err
        # In a JSON cell some of them are written as JSON's own escapes.
        assert (shown.out.count(written) >= 3, shown.err.count(written)) == (True, 4)
        output.answer_json({text: [text]})
        document = capsys.readouterr().out
        assert char not in document
        assert json.loads(document) == {text: [text]}


@pytest.mark.parametrize(
    "text", ["Grüße, नेपाली भाषा, አማርኛ, 中文, עברית, العربية, ไทย", "😀👍🏽🇳🇵", "a\u00a0b\u3000c\n\td", '"\\u202e"']
)
def test_what_can_be_seen_stays_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert escapes.visible(text) == text
    output.answer_json([text])
    assert json.loads(capsys.readouterr().out) == [text]


def test_yaml_is_escaped_so_that_it_can_be_read_back() -> None:
    content = {"synonyms": [{"table": "cases", "words": ["a\u202eb", "\x9b2J", "लाभार्थी"]}]}
    text = semantics._as_yaml(content)
    assert escapes.visible(text) == text
    assert yaml.safe_load(text) == content
    assert "लाभार्थी" in semantics._as_yaml({"words": ["लाभार्थी"]})


def test_nothing_writes_to_a_terminal_but_by_way_of_output() -> None:
    """Text that `output` has not checked could contain anything."""
    for path in (ROOT / "explorer_cli").rglob("*.py"):
        if path.parent.name == "output":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "sys.stdout.write", "sys.stderr.write", "Text", "typer.echo"), path.name
                # The demo's own question, in colours, and tables of checked texts that are drawn again.
                assert not called.endswith("console.print") or path.name in ("demo.py", "watch.py"), path.name


def test_outside_a_terminal_a_table_is_as_wide_as_its_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    address = "http://127.0.0.1:3000/runs/" + "0123456789" * 9
    tables.show_table(["Part", "Address"], [["UI", address]])
    assert address in capsys.readouterr().out


def test_parts_and_progress_show_what_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in ("0", "1"):
        monkeypatch.setenv("TTY_COMPATIBLE", terminal)
        text = io.StringIO()
        console = output.make_console(stderr=True)
        console.file, console.width = text, 200
        assert console.is_terminal is (terminal == "1")
        output.tell(console, *display.line(UnitStatus("n", "T", "failed", None, None, 0, 1.0, TRICKY)))
        with SyncProgress([TRICKY], console=console) as progress:
            progress.finish(TRICKY, "SUCCESS")
        assert text.getvalue().count(TRICKY) >= 2


def test_the_demo_prints_question_and_addresses_whole_on_any_width(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    run_url = "http://127.0.0.1:54321/runs/0b7c3c1e-1111-2222-3333-444455556666"
    state = {"bridge_url": "http://127.0.0.1:54322/mcp", "dagster_url": "http://127.0.0.1:54321", "demo_url": None}
    monkeypatch.setattr(demo, "describe", lambda settings: state)
    settings = Settings(_env_file=None, home=home)
    save(settings, token="dex_shown")
    answer = {"data": {"columns": [{"name": "village"}], "rows": [["Rampur"]]}, "timing_ms": 5}
    shown = demo.DemoResult([{"tenant": "demo:m:x", "tables": {"cases": 3}, "run_url": run_url}], answer, 60.0)
    demo._show(settings, output.make_console(stderr=True), shown, as_json=False)
    printed = capsys.readouterr()
    assert demo.SQL in printed.err
    assert demo.QUESTION in printed.err
    assert f"demo:m:x: 1 tables, 3 rows  {run_url}" in printed.err
    assert "Rampur" in printed.out
    assert len(demo.SQL.splitlines()) <= 12
    assert max(map(len, demo.SQL.splitlines())) <= 80


def test_a_demo_that_moved_says_which_port_brings_it_back(home: Path) -> None:
    tenant = SimpleNamespace(server="http://127.0.0.1:8190")
    store = SimpleNamespace(catalog=SimpleNamespace(tenants=SimpleNamespace(get=lambda key: tenant)))
    with pytest.raises(DemoMoved) as refusal:
        demo._tenant(store, DemoServer(8199, 600, "key"), "demo:nutrition", "demo-nutrition")
    assert "http://127.0.0.1:8190" in refusal.value.message
    assert "EXPLORER_DEMO_PORT=8190" in refusal.value.next_step
