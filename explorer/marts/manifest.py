"""Which models and tests does a provider have? Read from dbt's manifest, that is made without a database."""

import json
import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any

from explorer.contract.schemas import SchemaKind
from explorer.core.files import write_private
from explorer.core.locks import file_lock
from explorer.core.settings import Settings
from explorer.marts.command import QUIET, environment_for
from explorer.marts.process import PARSE, invoke
from explorer.marts.project import content_hash, find_project

Node = Mapping[str, Any]
EPHEMERAL = "ephemeral"
# Kinds of models that show rows of others.
WITHOUT_ROWS = frozenset({EPHEMERAL, "view"})


def manifest(settings: Settings, provider: str, *, keep_dbt: bool = False) -> dict[str, Any]:
    """dbt's manifest with the models of one provider and their tests; dbt parses the project again only after a change.
    `keep_dbt`: a process that is started for it stays for the next command.

    Raises:
        TransformFailed: dbt cannot read the project.
        DbtProjectMissing: there is none.
    """
    whole = _whole(settings, keep_dbt)
    folder = f"models/{provider}/"
    sources = {uid: each for uid, each in whole["sources"].items() if each["original_file_path"].startswith(folder)}
    models = {uid: node for uid, node in whole["nodes"].items() if node["original_file_path"].startswith(folder)}
    own = {*sources, *models}
    tests = {
        uid: node
        for uid, node in whole["nodes"].items()
        if node["resource_type"] == "test" and node["depends_on"]["nodes"] and own >= set(node["depends_on"]["nodes"])
    }
    unit_tests = {uid: each for uid, each in whole["unit_tests"].items() if own >= set(each["depends_on"]["nodes"])}
    kept = {*own, *tests, *unit_tests}
    graphs = {name: _within(kept, whole[name]) for name in ("child_map", "parent_map")}
    return whole | graphs | {"nodes": models | tests, "sources": sources, "unit_tests": unit_tests}


def of_others(settings: Settings, provider: str) -> list[str]:
    """Names of the models outside the provider's folder, and of models and tests that read these or sources from there: its
    tenants have none of them. Raises as `manifest`."""
    whole, folder = _whole(settings, keep_dbt=True), f"models/{provider}/"
    nodes, sources, children = whole["nodes"], whole["sources"], whole["child_map"]
    outside = [
        uid
        for uid, each in {**sources, **nodes}.items()
        if each["resource_type"] in ("source", "model") and not each["original_file_path"].startswith(folder)
    ]
    for uid in outside:
        read_by = (each for each in children[uid] if each in nodes and each not in outside)
        outside += [each for each in read_by if uid in nodes or nodes[each]["resource_type"] == "test"]
    return [nodes[uid]["name"] for uid in outside if uid in nodes]


def _within(kept: Set[str], graph: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The part of one of dbt's graphs that is between these nodes."""
    return {uid: [each for each in others if each in kept] for uid, others in graph.items() if uid in kept}


def _whole(settings: Settings, keep_dbt: bool) -> dict[str, Any]:
    """The manifest of the project as it is now. When several processes need the same parse, one does it and the others wait."""
    folder, now = settings.home / "dbt" / "project", content_hash(settings)
    folder.mkdir(parents=True, exist_ok=True)
    parsed = folder / "parsed"
    with file_lock(folder / "lock"):
        if not parsed.is_file() or parsed.read_text() != now:
            environment = environment_for(find_project(settings), folder)
            invoke([*QUIET, PARSE], environment, lambda _: None, keep=keep_dbt)
            write_private(parsed, now)
        document: dict[str, Any] = json.loads((folder / "target" / "manifest.json").read_bytes())
        return document


def warm_up(settings: Settings) -> None:
    """Let dbt read the project once in this process and build nothing, so that those forked from it have its modules and caches:
    that halves a tenant's first reading, and the time until a build begins. Without the static parser, whose threads would stay.
    A project that cannot be read is the next run's to report."""
    from dbt.cli.main import dbtRunner

    with tempfile.TemporaryDirectory() as scratch:
        project = str(find_project(settings))
        paths = ["--project-dir", project, "--profiles-dir", project, "--target-path", scratch, "--log-path", scratch]
        dbtRunner().invoke([*QUIET, "--no-static-parser", "build", "--select", "no_model_at_all", *paths])


@dataclass(frozen=True)
class Models:
    """The models and tests of a manifest, by name, and what reads what."""

    document: Mapping[str, Any]

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The models, parents first."""
        nodes = self.document["nodes"]
        order = TopologicalSorter({uid: node["depends_on"]["nodes"] for uid, node in nodes.items()}).static_order()
        return {
            nodes[uid]["name"]: nodes[uid] for uid in order if uid in nodes and nodes[uid]["resource_type"] == "model"
        }

    @cached_property
    def built(self) -> Set[str]:
        """Names of the models that dbt builds; it puts the others into the SQL of those that read them."""
        return {name for name, node in self.by_name.items() if node["config"]["materialized"] != EPHEMERAL}

    @cached_property
    def tests(self) -> Mapping[str, Node]:
        """The tests by unique id."""
        return {uid: node for uid, node in self.document["nodes"].items() if node["resource_type"] == "test"}

    @cached_property
    def test_named(self) -> Mapping[str, Node]:
        """The tests by name."""
        return {test["name"]: test for test in self.tests.values()}

    def inputs(self, name: str) -> Sequence[str]:
        """The models that a model reads, and the tables of the tenant."""
        return self.read_by(self.by_name[name])

    def read_by(self, node: Node) -> Sequence[str]:
        """The same of a test or model."""
        return [self._name(uid) for uid in node["depends_on"]["nodes"]]

    def sources_of(self, node: Node) -> set[str]:
        """The tables of the tenant that a test or model reads."""
        return {self._name(uid) for uid in node["depends_on"]["nodes"] if uid in self.document["sources"]}

    def tested(self, test: Node) -> str:
        """Name of the model or table that a test belongs to: the one that it stands with, or the last one that it reads."""
        return self._name(test.get("attached_node") or test["depends_on"]["nodes"][-1])

    def _name(self, unique_id: str) -> str:
        node = self.document["nodes"].get(unique_id) or self.document["sources"].get(unique_id)
        return str(node["name"]) if node else unique_id


def layer_of(model: Node) -> SchemaKind:
    """`staging` or `marts`: the schema of the tenant that a model lies in."""
    layer: SchemaKind = model["config"].get("schema") or "marts"
    return layer
