"""The benchmarks at a tiny size: they run, compare the same rows and write their results."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.__main__ import BENCHMARKS, app, run
from benchmarks.charts import draw
from benchmarks.results import Claim, Measure, Result, ratio

ROWS = 2_100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a run of two benchmarks wrote."""
    folder = tmp_path_factory.mktemp("benchmarks")
    failures = run(["full_load", "merge"], "tiny", folder / "out.json", folder, Console(quiet=True))
    assert failures == {}
    return folder


@pytest.fixture
def found(folder: Path) -> dict:
    return json.loads((folder / "out.json").read_text())["benchmarks"]


def test_both_sides_of_a_full_load_have_the_rows_of_the_server(found: dict) -> None:
    rows = found["full_load"]["facts"]["rows"]
    assert rows["raw_cases"] == ROWS
    assert rows["raw_forms"] > ROWS


def test_the_merge_benchmark_changes_a_tenth_and_adds_none(found: dict) -> None:
    assert found["merge"]["facts"] == {"rows": ROWS, "changed": ROWS // 10}


def test_every_claim_is_a_ratio_of_what_was_measured(found: dict) -> None:
    for name in ("full_load", "merge"):
        assert len(found[name]["claims"]) == 1
        assert all(claim["value"] > 0 for claim in found[name]["claims"])
        assert all(measure["median"] > 0 and measure["samples"] for measure in found[name]["measures"])


def test_metadata_are_asked_of_every_tenant(tmp_path: Path) -> None:
    failures = run(["metadata"], "tiny", tmp_path / "out.json", tmp_path, Console(quiet=True))
    assert failures == {}
    found = json.loads((tmp_path / "out.json").read_text())["benchmarks"]["metadata"]
    assert found["facts"]["tenants"] == len(found["measures"][0]["samples"]) == 2
    assert found["facts"]["tables_in_get_metadata"] == found["facts"]["tables_per_tenant"]
    assert [claim["what"] for claim in found["claims"]] == [
        "list_tables, p95", "describe_table, p95", "get_metadata, concise",
    ]  # fmt: skip


def test_a_round_of_tenants_launches_those_with_news_alone(tmp_path: Path) -> None:
    """The whole platform, its schedule and the queue: four tenants' turns come at once, and one of them has news."""
    failures = run(["tenants"], "tiny", tmp_path / "out.json", tmp_path, Console(quiet=True))
    assert failures == {}
    found = json.loads((tmp_path / "out.json").read_text())["benchmarks"]["tenants"]
    # That of the first sync, and one more.
    assert found["facts"] == {"tenants": 4, "changed": 1, "runs": 2}


def test_transforms_apply_what_changed(tmp_path: Path) -> None:
    failures = run(["transforms"], "tiny", tmp_path / "out.json", tmp_path, Console(quiet=True))
    assert failures == {}
    found = json.loads((tmp_path / "out.json").read_text())["benchmarks"]["transforms"]
    assert found["facts"]["changed"] > 0
    assert found["facts"]["tables_applied"] > 0
    assert [claim["what"] for claim in found["claims"]] == ["after 1 % changed, of a whole build"]


def test_charts_and_tables_are_written(folder: Path) -> None:
    for name in ("full_load", "merge"):
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        assert f"| {name} |" in (folder / "results.md").read_text()


def test_the_same_numbers_give_the_same_chart(tmp_path: Path) -> None:
    result = Result("memory", series={"resident memory": [(0.0, 100.0), (1.0, 120.0)]}, facts={"rows": 10})
    first = draw(result, tmp_path / "a").read_bytes()
    assert draw(result, tmp_path / "b").read_bytes() == first


def test_a_ratio_is_the_median_over_rounds() -> None:
    """A slow machine in one round slows both sides of that round."""
    assert ratio(Measure("ours", [10, 2, 9]), Measure("theirs", [5, 1, 9])) == 2
    assert Claim("", 2, 2, "at least").met
    assert not Claim("", 2.1, 2, "at most").met


def test_the_list_says_what_each_benchmark_measures() -> None:
    shown = CliRunner().invoke(app, ["--list"]).output
    assert all(name in shown for name in BENCHMARKS)


def test_an_unknown_benchmark_is_refused_before_anything_starts() -> None:
    refused = CliRunner().invoke(app, ["no_such_benchmark"])
    assert refused.exit_code == 2
