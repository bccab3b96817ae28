"""The project's files for a tenant: its pipelines, the keys of their static tables, their semantics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from explorer.catalog import Tenant
from explorer.registry import Fault, Keys, Pipeline, Semantics, load_keys, load_pipelines, load_semantics


@dataclass(frozen=True)
class PipelineFiles:
    """`pipelines`, `semantics` and `keys`, each by pipeline name."""

    pipelines: dict[str, Pipeline]
    semantics: dict[str, Semantics]
    keys: dict[str, Keys]

    @classmethod
    def read(cls, project: Path, faults_of: Callable[[Pipeline], Iterable[Fault]]) -> Self:
        """Read the files of a project folder. Raises: PipelineInvalid."""
        folder = project / "pipelines"
        pipelines = load_pipelines(folder, faults_of)
        semantics = {name: load_semantics(folder, pipeline) for name, pipeline in pipelines.items()}
        keys = {p.name: _keys(project, p) for p in pipelines.values()}
        return cls(pipelines, semantics, keys)

    def of(self, tenant: Tenant) -> list[Pipeline]:
        """The pipelines that fill this tenant's tables."""
        return [pipeline for pipeline in self.pipelines.values() if pipeline.provider == tenant.provider]

    def semantics_of(self, tenant: Tenant) -> Semantics:
        """The semantics of the tenant's pipelines, from the files."""
        found = Semantics()
        for pipeline in self.of(tenant):
            found = found.under(self.semantics[pipeline.name])
        return found


def _keys(project: Path, pipeline: Pipeline) -> Keys:
    transforms = pipeline.transforms
    return load_keys(project / transforms.dbt_project, pipeline.provider) if transforms else {}
