"""Assets of kind dbt: the static models of the dbt project, staging and marts, with dbt's tests as their checks."""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from itertools import chain
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, build_dbt_asset_specs

from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.checks import CheckOutcome, ModelTest
from explorer.contract.materializations import StaticModel
from explorer.contract.names import AssetKeys
from explorer.contract.schemas import SchemaKind
from explorer.marts.tenant_build import Built, Manifest
from explorer.registry import Pipeline
from explorer_dagster import column_metadata
from explorer_dagster.checks import check_result
from explorer_dagster.metadata import Event, as_metadata
from explorer_dagster.partitions import tenants

Node = Mapping[str, Any]
_PASSED = "pass"


class Translator(DagsterDbtTranslator):  # type: ignore[misc]
    """dbt's nodes as the pipeline's assets: `<prefix>/<layer>/<model>`, sources as `<prefix>/raw/<source>`."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._keys = AssetKeys(pipeline.asset_prefix)
        self._source_of_table = {source.table: source.name for source in pipeline.sources}

    def get_asset_key(self, dbt_resource_props: Node) -> dg.AssetKey:
        name = dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey(self._keys.raw(self._source_of_table[name]))
        return dg.AssetKey(self._keys.of(_layer(dbt_resource_props), name))

    def get_group_name(self, dbt_resource_props: Node) -> str:
        return _layer(dbt_resource_props)

    def get_tags(self, dbt_resource_props: Node) -> Mapping[str, str]:
        return {**super().get_tags(dbt_resource_props), "layer": _layer(dbt_resource_props)}

    def get_owners(self, dbt_resource_props: Node) -> list[str]:
        return list(self._pipeline.owners)


def _layer(props: Node) -> SchemaKind:
    """`staging` or `marts`: the folder below models/."""
    layer: SchemaKind = props["config"].get("schema", "staging")
    return layer


class StaticModels:
    """The project's own models as assets, from dbt's `manifest` and the `lineage` of their columns.

    `keys`: of the models, by name; `sources`: of the raw tables that they read.
    """

    def __init__(self, pipeline: Pipeline, manifest: Manifest, lineage: Lineage) -> None:
        self.manifest = manifest
        self.lineage = lineage
        self._translator = Translator(pipeline)
        asset_key = self._translator.get_asset_key
        models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
        self.keys: Mapping[str, dg.AssetKey] = {node["name"]: asset_key(node) for node in models}
        self.sources: Mapping[str, dg.AssetKey] = {
            source["name"]: asset_key(source) for source in manifest["sources"].values()
        }
        self._tests = dict(self._read_tests())

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """The definitions of the models."""
        found = build_dbt_asset_specs(manifest=self.manifest, dagster_dbt_translator=self._translator)
        return [
            column_metadata.with_origins(spec.replace_attributes(partitions_def=tenants), self.lineage)
            for spec in found
        ]

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """dbt's tests."""
        return [spec for spec, _ in self._tests.values()]

    def _read_tests(self) -> Iterator[tuple[str, tuple[dg.AssetCheckSpec, bool]]]:
        """By the test's name: its check, and whether it is an error not to pass."""
        for node in self.manifest["nodes"].values():
            attached = self.manifest["nodes"].get(node.get("attached_node") or "")
            if node["resource_type"] == "test" and attached:
                about = node.get("description") or None
                spec = dg.AssetCheckSpec(node["name"], asset=self.keys[attached["name"]], description=about)
                yield node["name"], (spec, node["config"]["severity"].lower() != "warn")

    def materializations(self, built: Built, selected: Iterable[str]) -> Iterator[Event]:
        """Of the models that are as the source is now, whether they had to be built for that or not."""
        wanted = set(selected) & built.present
        # Dagster takes the assets of one step in the order of their dependencies only.
        nodes = self.manifest["nodes"]
        parents = {uid: node["depends_on"]["nodes"] for uid, node in nodes.items()}
        for node in (nodes[uid] for uid in TopologicalSorter(parents).static_order() if uid in parents):
            if node["name"] in wanted:
                metadata = as_metadata(self._facts(built, node))
                yield dg.MaterializeResult(asset_key=self.keys[node["name"]], metadata=metadata)

    def _facts(self, built: Built, node: Node) -> StaticModel:
        name, result = node["name"], built.models.get(node["name"])
        relation = f"{built.project.schemas.schema(_layer(node))}.{node['alias']}"
        # Columns are told by the definition too; to write them for what did not change would be a fifth of a sync without news.
        if result is None:
            return StaticModel(table_name=relation, rebuilt=False, row_count=built.unchanged[name])
        about = {column: facts["description"] for column, facts in node["columns"].items()}
        columns = column_metadata.of_model(
            built.types.get(relation, ()),
            about,
            built.lineage.get(node["alias"], {}),
            {**self.sources, **self.keys},
        )
        return StaticModel(
            table_name=relation,
            rebuilt=True,
            column_schema=columns.schema,
            column_lineage=columns.lineage,
            duration_s=round(result.duration_s, 3),
            row_count=result.rows,
        )

    def checks(self, built: Built, selected: Iterable[dg.AssetCheckKey]) -> Iterator[Event]:
        """Results of the tests that ran; of the others those that failed before, so that a run without news hides none."""
        wanted = set(selected)
        passed = [
            Finding(result.name, result.status, result.rows, result.message)
            for result in built.results
            if result.resource_type == "test" and result.status == _PASSED
        ]
        for finding in (*passed, *chain.from_iterable(built.findings.values())):
            spec, is_error = self._tests.get(finding.test, (None, True))
            if spec and spec.key in wanted:
                yield check_result(spec.asset_key, _outcome(finding, spec.name, is_error=is_error))


def _outcome(finding: Finding, name: str, *, is_error: bool) -> CheckOutcome:
    facts = ModelTest(status=finding.status, failing_rows=finding.rows or 0, message=finding.message or "")
    return CheckOutcome(name, finding.status == _PASSED, is_error, facts)
