"""Agents of other frameworks, with a scripted model: they find the tools, start a run, follow it to its end, and ask."""

import json
import subprocess
from pathlib import Path

import pytest

from demo_commcare import MATERNAL
from demo_commcare.sign_in.accounts import DATA_OFFICER
from tests.e2e.stack import MOTHERS
from tests.external.conftest import FRAMEWORKS, Platform
from tests.external.programs import started


@pytest.mark.parametrize("program", ["langgraph_agent.py", "pydantic_ai_agent.py"])
def test_an_agent_brings_new_data_and_counts_them(platform: Platform, frameworks_python: Path, program: str) -> None:
    stack = platform.stack
    (before,) = stack.rows(MOTHERS, "select count(*) from cases")
    stack.demo.control.create_case(MATERNAL, "mother", f"Came before {program}", {})
    env = {"PATH": "/usr/bin:/bin", "URL": platform.url, "TOKEN": stack.token, "TENANT": MOTHERS}
    ended = subprocess.run(
        [str(frameworks_python), str(FRAMEWORKS / program)],
        env=env, text=True, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["says"] == f"There are {before[0] + 1} cases."
    assert before[0] + 1 == len(stack.demo.truth(MATERNAL).cases)
    assert set(told["calls"]) == {"get_metadata", "run_materialization", "get_materialization_status", "query"}
    assert len(told["tools"]) >= 10


def test_an_agent_of_langgraph_signs_in_by_itself(platform: Platform, frameworks_python: Path) -> None:
    """From the URL alone: it registers, opens the person's browser, and works with what the person allowed."""
    env = {"PATH": "/usr/bin:/bin", "URL": platform.url, "TOKEN": "", "TENANT": MOTHERS}
    with started(str(frameworks_python), str(FRAMEWORKS / "langgraph_agent.py"), env=env) as agent:
        agent.tell(platform.person(DATA_OFFICER).comes_to(agent.event()["open"]))
        told = agent.event()
    (count,) = platform.stack.rows(MOTHERS, "select count(*) from cases")
    assert told["says"] == f"There are {count[0]} cases."
    assert "run_materialization" in told["calls"]
