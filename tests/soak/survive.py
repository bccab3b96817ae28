"""Each part is killed in the middle of a sync, and one run is asked for through three doors at once.

    python -m tests.soak.survive [PART ...]

For each: seconds until no process of what was killed is left (10 are allowed), until the platform says truthfully how it is and
how the run ended (60), whether old rows are served meanwhile, and whether the next run is exact.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo_commcare import NUTRITION
from explorer.core.runtime_state import read_state
from explorer.postgres.embedded import EmbeddedPostgres
from explorer_cli.supervision.processes import marked
from tests.e2e.stack import ACTIVE, CHILDREN, Stack, running_stack

ORPHANS_S, TRUTH_S = 10.0, 60.0
COUNT = "select count(*) from cases"
PARTS = (
    "worker",
    "warm-pool",
    "code-server",
    "daemon",
    "webserver",
    "bridge",
    "database",
    "supervisor",
)


def main(wanted: list[str]) -> int:
    failed = 0
    with running_stack() as stack:
        assert stack.sync(CHILDREN)["status"] == "SUCCESS"
        for name in wanted or [*PARTS, "three-doors"]:
            told = three_doors(stack) if name == "three-doors" else killed(stack, name)
            failed += not told["ok"]
            print(json.dumps({"killed": name, **told}), flush=True)
    return 1 if failed else 0


def killed(stack: Stack, name: str) -> dict[str, Any]:
    """Kill it while a run works."""
    before = stack.rows(CHILDREN, COUNT)
    case = stack.demo.control.create_case(NUTRITION, "enfant", f"Born while {name} died", {"sexe": "f"})
    stack.demo.control.set_latency(2)
    run_id = stack.call("run_materialization", tenant=CHILDREN, wait_s=0)["data"]["run_id"]
    within(60, lambda: run_state(stack, run_id)[0] == "STARTED" and run_state(stack, run_id)[1])
    state = read_state(stack.home)
    victim = pid_of(stack, name, run_id)
    children = {pid for pid in marked(state["instance"]) if parent_of(pid) == victim}
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    told: dict[str, Any] = {}
    # What the supervisor and the pool have started goes on or is ended by the next start; others' children must go with them.
    if name in ("supervisor", "warm-pool"):
        children = set()
    told["orphans_gone_s"] = within(ORPHANS_S, lambda: not alive(victim) and not any(map(alive, children)), began)
    if name == "supervisor":
        told["told_dead"] = not json.loads(stack.cli("status", "--json", check=False).stdout)["running"]
        stack.up()
        began = time.monotonic()
    stack.demo.control.set_latency(0)
    told["healthy_s"] = within(TRUTH_S, lambda: is_healthy(stack), began)
    told["run_truthful_s"] = within(TRUTH_S, lambda: is_truthful(stack, run_id), began)
    told["run"] = run_state(stack, run_id)[0]
    served = stack.rows(CHILDREN, COUNT)
    told["old_rows_served"] = served[0][0] in (before[0][0], before[0][0] + 1)
    within(150, lambda: run_state(stack, run_id)[0] not in ACTIVE)
    told["next_run"] = stack.sync(CHILDREN)["status"]
    truth = len(stack.demo.truth(NUTRITION).cases)
    told["exact"] = stack.rows(CHILDREN, COUNT) == [[truth]] and stack.rows(
        CHILDREN, f"select count(*) from cases where case_id = '{case}'"
    ) == [[1]]
    told["ok"] = (
        all(told[each] is not None for each in ("orphans_gone_s", "healthy_s", "run_truthful_s"))
        and told["old_rows_served"] and told["exact"] and told["next_run"] == "SUCCESS"
    )  # fmt: skip
    return told


def three_doors(stack: Stack) -> dict[str, Any]:
    """An agent, the command line and the UI ask for a run of the tenant at the same moment."""
    stack.demo.control.create_case(NUTRITION, "enfant", "Three doors", {"sexe": "m"})
    stack.demo.control.set_latency(0.5)
    launched: list[str] = []

    def agent() -> None:
        launched.append(stack.call("run_materialization", tenant=CHILDREN, wait_s=0)["data"]["run_id"])

    def command() -> None:
        launched.append(json.loads(stack.cli("sync", CHILDREN, "--json").stdout)["run_id"])

    def browser() -> None:
        params = {
            "selector": {"repositoryLocationName": "explorer", "repositoryName": "__repository__", "jobName": "commcare_sync"},
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": CHILDREN}]},
        }  # fmt: skip
        text = "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { ... on LaunchRunSuccess { run { runId } } } }"
        launched.append(stack.graphql(text, p=params)["launchRun"]["run"]["runId"])

    threads = [threading.Thread(target=each) for each in (agent, command, browser)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    most, end = 0, time.monotonic() + 150
    while time.monotonic() < end:
        states = [run_state(stack, run_id)[0] for run_id in set(launched)]
        most = max(most, states.count("STARTED"))
        if not any(state in ACTIVE for state in states):
            break
        time.sleep(0.3)
    stack.demo.control.set_latency(0)
    exact = stack.rows(CHILDREN, COUNT) == [[len(stack.demo.truth(NUTRITION).cases)]]
    return {
        "runs": len(set(launched)),
        "at_work_at_once": most,
        "ended": states,
        "exact": exact,
        "ok": most == 1 and exact,
    }


def within(seconds: float, condition: Callable[[], Any], began: float | None = None) -> float | None:
    """Seconds until the condition holds; None when it does not in time. What does not answer does not hold."""
    began = time.monotonic() if began is None else began
    while time.monotonic() < began + seconds:
        try:
            if condition():
                return round(time.monotonic() - began, 1)
        except Exception:
            pass
        time.sleep(0.2)
    return None


def pid_of(stack: Stack, name: str, run_id: str) -> int:
    state = read_state(stack.home)
    if name == "worker":
        return int(run_state(stack, run_id)[1])
    if name == "supervisor":
        return int(state["supervisor"]["pid"])
    if name == "database":
        address = EmbeddedPostgres(stack.home).status().address
        assert address is not None
        return address.pid
    return int(state["pids"][name])


def run_state(stack: Stack, run_id: str) -> tuple[str, int]:
    """Status of the run and the pid of its worker, 0 where it has none."""
    query = '{ runOrError(runId: "%s") { ... on Run { status tags { key value } } } }' % run_id  # noqa: UP031
    run = stack.graphql(query)["runOrError"]
    worker = {tag["key"]: tag["value"] for tag in run["tags"]}.get(".explorer/worker", "0")
    return str(run["status"]), int(worker.rpartition("/")[2].split(":")[0])


def is_truthful(stack: Stack, run_id: str) -> bool:
    """Whether the run has ended, or its worker lives."""
    status, pid = run_state(stack, run_id)
    return status not in ACTIVE or (status == "STARTED" and alive(pid)) or status == "QUEUED"


def is_healthy(stack: Stack) -> bool:
    return bool(json.loads(stack.cli("status", "--json", check=False).stdout)["healthy"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
