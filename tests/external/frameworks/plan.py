"""A model that needs no network: what it calls next follows from what its calls have answered so far.

Environment: URL and TOKEN of the bridge, TENANT to ask about.
"""

import os
from typing import Any

URL, TOKEN, TENANT = os.environ["URL"], os.environ["TOKEN"], os.environ["TENANT"]
TASK = "Bring the newest data, and tell how many cases there are."


def next_call(answers: list[dict[str, Any]]) -> tuple[str, dict[str, Any]] | str:
    """The tool to call and its arguments; at the end, what the model says. `answers`: of its calls, oldest first."""
    if not answers:
        return "get_metadata", {"tenant": TENANT}
    last = answers[-1]["data"]
    if len(answers) == 1:
        assert any(table["name"] == "cases" for table in last["tables"]), last
        return "run_materialization", {"tenant": TENANT, "wait_s": 1}
    if "rows" in last:
        return f"There are {last['rows'][0][0]} cases."
    if not last["finished"]:
        return "get_materialization_status", {"tenant": TENANT, "run_id": last["run_id"], "wait_s": 20}
    assert last["status"] == "SUCCESS", last
    return "query", {"tenant": TENANT, "sql": "SELECT count(*) FROM cases"}
