"""The output of `explorer query` for cells that would control a terminal, from the real command over its own bridge."""

import json
import subprocess
import sys

import pytest

from tests.mcp_bridge.stage import Stage, environment

CODES = [
    *(code for code in range(1, 0xA0) if code not in (9, 10) and (code < 0x20 or code >= 0x7F)),
    *(0x61C, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029, 0x2060, 0xFEFF, 0xE0041),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]
SQL = "select " + " || ".join(f"'x' || chr({code})" for code in CODES) + " as v"


@pytest.mark.parametrize("as_json", [False, True])
def test_cells_are_escaped_and_json_stays_exact(stage: Stage, as_json: bool) -> None:
    command = [sys.executable, "-m", "explorer_cli", "query", "demo:one", SQL, *(["--json"] if as_json else [])]
    done = subprocess.run(command, env=environment(stage), capture_output=True, check=True, timeout=120)
    text = done.stdout.decode()
    assert not {chr(code) for code in CODES} & set(text + done.stderr.decode())
    value = "".join(f"x{chr(code)}" for code in CODES)
    if as_json:
        assert json.loads(text)["data"]["rows"] == [[value]]
    else:
        shown = "".join(f"x\\u{code:04x}" if code < 0x10000 else f"x\\U{code:08x}" for code in CODES)
        assert shown in text


def test_an_error_that_repeats_what_was_asked_is_escaped(stage: Stage) -> None:
    command = [sys.executable, "-m", "explorer_cli", "query", "demo:\u202e\x9bone", "select 1"]
    done = subprocess.run(command, env=environment(stage), capture_output=True, check=False, timeout=120)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "unknown_tenant" in said
    assert not {"\u202e", "\x9b"} & set(said)
