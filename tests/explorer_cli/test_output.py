"""Data are shown letter by letter: no markup, no pictures, nothing that steers the terminal, nothing cut off."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from explorer_cli import demo, display, output
from explorer_cli.demo_server import DemoServer, save
from explorer_cli.errors import DemoMoved
from explorer_cli.progress import SyncProgress
from explorer_cli.supervisor import UnitStatus
from explorer_dagster.errors import TransientError
from explorer_dagster.settings import Settings

TRICKY = "demo:m:x [red]not red[/red] [link=http://x]:smile: \\[b]"


def test_errors_remarks_and_tables_show_what_they_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(TransientError(TRICKY, next_step=TRICKY, details={"log": [TRICKY]}), as_json=False)
    output.say(("Note", "yellow"), f" {TRICKY}")
    err = capsys.readouterr().err
    assert err.count(TRICKY) == 4
    output.show_table([TRICKY, "n"], [[TRICKY, 1], [{"k": TRICKY}, None]])
    output.show_table(["a"], [], empty=TRICKY)
    assert capsys.readouterr().out.count(TRICKY) == 3


def test_data_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(["\x1b[31mred"], [["\x1b]0;title\x07 \x9b2J \r over"]])
    output.say("\x1b[2J gone\n\tkept")
    shown = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(shown.out + shown.err)
    assert shown.err.endswith(" gone\n        kept\n") or shown.err.endswith(" gone\n\tkept\n")


def test_outside_a_terminal_a_table_is_as_wide_as_its_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    address = "http://127.0.0.1:3000/runs/" + "0123456789" * 9
    output.show_table(["Part", "Address"], [["UI", address]])
    assert address in capsys.readouterr().out


def test_parts_and_progress_show_what_they_were_given() -> None:
    for terminal in (False, True):
        text = io.StringIO()
        console = output.make_console(stderr=True)
        console.file, console.width = text, 200
        console._force_terminal = terminal
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
    shown = demo.Shown([{"tenant": "demo:m:x", "tables": {"cases": 3}, "run_url": run_url}], answer, 60.0)
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
