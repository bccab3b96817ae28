"""Board and rules name what the exporters tell, are whole, and lead to a page that is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from explorer.core.settings import Settings
from explorer_dagster.webserver.metrics import DagsterFigures, Standing
from mcp_bridge.metrics import BridgeMetrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
BOARD = json.loads((FOLDER / "grafana-board.json").read_text(encoding="utf-8"))
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
_PAIRS = {"(": ")", "{": "}", "[": "]"}
_RANGED = ("rate", "increase", "predict_linear")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all series that the exporters tell, and Prometheus' own `up`."""
    settings = Settings(_env_file=None, home=tmp_path_factory.mktemp("home"))
    with dg.DagsterInstance.ephemeral() as instance:
        texts = [BridgeMetrics().text({}), DagsterFigures(instance, settings, lambda: Standing({})).text()]
    names = {"up"}
    for text in texts:
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.MULTILINE):
            names |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def expressions() -> Iterator[tuple[str, str]]:
    for panel in BOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)


@pytest.mark.parametrize(("of", "expression"), list(expressions()))
def test_an_expression_is_whole_and_names_series_that_are_told(told: set[str], of: str, expression: str) -> None:
    bare = re.sub(r'"[^"]*"', '""', expression)
    open_: list[str] = []
    for sign in bare:
        if sign in _PAIRS:
            open_.append(_PAIRS[sign])
        elif sign in _PAIRS.values():
            assert open_.pop() == sign
    assert open_ == []
    named = set(re.findall(r"\b(?:explorer|process)_\w+|\bup\b", bare))
    assert named
    assert named <= told
    # A counter is only told by what it grows.
    for counter in (name for name in named if name.endswith("_total")):
        assert re.search(rf"({'|'.join(_RANGED)})\({counter}(\{{[^}}]*\}})?\[\w+\]", bare), counter


def test_the_board_is_one_that_grafana_shows() -> None:
    panels: list[dict[str, Any]] = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places
        assert at["x"] + at["w"] <= 24
        places |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource"]


def test_each_rule_waits_says_how_bad_it_is_and_leads_to_its_runbook() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
