"""Saved models from the call to the table: through the bridge, Dagster, dbt and the command line, as agents and engineers do."""

import json
from pathlib import Path

from tests.e2e.stack import CHILDREN, Stack

PER_TYPE = "SELECT case_type, count(*) AS n FROM cases GROUP BY case_type"


def test_models_are_saved_built_tested_moved_and_dropped(stack: Stack, tmp_path: Path) -> None:
    token = stack.cli(
        "tokens", "create", "--name", "keeper", "--tenant", CHILDREN, "--scope", "models:write", "--scope", "query:run",
        "--scope", "metadata:read", "--scope", "runs:launch", "--toolsets", "models",
    ).stdout.strip()  # fmt: skip
    stack.sync(CHILDREN)
    truth = stack.rows(CHILDREN, PER_TYPE + " ORDER BY 1")

    saved = stack.call(
        "save_model", token, tenant=CHILDREN, name="per_type", sql=PER_TYPE, description="One type of case.",
        tests={"case_type": {"unique": True, "not_null": True}, "n": {"accepted_values": ["-1"]}},
    )  # fmt: skip
    assert saved["success"], saved
    assert saved["data"]["version"] == 1
    run = stack.sync(CHILDREN)
    assert run["status"] == "SUCCESS"
    assert stack.rows(CHILDREN, "SELECT * FROM per_type ORDER BY 1", token) == truth
    listed = stack.call("list_models", token, tenant=CHILDREN)["data"]["models"]
    assert [(each["name"], each["state"], each["rows"], each["run_id"]) for each in listed] == [
        ("per_type", "built", len(truth), run["run_id"])
    ]
    assert listed[0]["failing_tests"] == [f"n__accepted_values ({len({n for _, n in truth})} found)"]
    answer = stack.call("query", token, tenant=CHILDREN, sql="SELECT * FROM per_type")
    assert answer["data"]["sources"][0]["run_id"] == run["run_id"]
    assert "n__accepted_values" in json.dumps(answer["data"]["sources"])
    tables = stack.call("list_tables", token, tenant=CHILDREN, all_tables=True)["data"]["tables"]
    assert [each["kind"] for each in tables if each["name"] == "per_type"] == ["saved"]
    described = stack.call("describe_table", token, tenant=CHILDREN, table="per_type")["data"]
    assert described["description"] == "One type of case."

    # A second one, by the command line, reads the first.
    (tmp_path / "all_cases.sql").write_text("select sum(n) as n from per_type;\n")
    stack.cli("models", "save", CHILDREN, str(tmp_path / "all_cases.sql"), "--description", "The number of cases.")
    stack.sync(CHILDREN)
    ((found,),) = stack.rows(CHILDREN, "SELECT n FROM all_cases", token)
    assert int(found) == sum(int(n) for _, n in truth)

    folder = tmp_path / "exported"
    stack.cli("models", "export", CHILDREN, str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [
        "all_cases.sql", "all_cases.yml", "per_type.sql", "per_type.yml"
    ]  # fmt: skip
    assert "from {{ ref('per_type') }}" in (folder / "all_cases.sql").read_text()
    assert "FROM {{ source('commcare', 'cases') }}" in (folder / "per_type.sql").read_text()
    imported = json.loads(stack.cli("models", "import", CHILDREN, str(folder), "--json").stdout)
    assert sorted(imported["saved"]) == ["all_cases", "per_type"]

    for name in ("all_cases", "per_type"):
        assert stack.call("drop_model", token, tenant=CHILDREN, name=name, confirm=name)["success"]
    assert stack.sync(CHILDREN)["status"] == "SUCCESS"
    gone = stack.call("query", token, tenant=CHILDREN, sql="SELECT * FROM per_type")
    assert gone["error"]["code"] == "unknown_relation"
