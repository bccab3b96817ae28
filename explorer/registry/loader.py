"""How are pipeline files read? YAML to typed values, with every fault reported as file, line and key."""

from collections.abc import Callable, Iterable
from pathlib import Path

from explorer.core.errors import ExplorerError
from explorer.core.typed_yaml import Fault, M, TypedYaml, YamlInvalid
from explorer.registry.models import Pipeline


class PipelineInvalid(ExplorerError):
    """A pipeline file is missing, is not YAML, or has an invalid value."""

    code = "pipeline_invalid"


# Files of the semantic layer have this ending (`semantics`).
_SEMANTICS = ".semantics.yml"
# Finds further faults, such as an unknown provider.
FaultsOf = Callable[[Pipeline], Iterable[Fault]]


def load_pipelines(folder: Path, faults_of: FaultsOf | None = None) -> dict[str, Pipeline]:
    """All pipelines of `folder`, by name, in the order of their file names. `faults_of`: see `load_pipeline`.

    Raises:
        PipelineInvalid: a fault in any file, no file at all, or one name in two files.
    """
    found: dict[str, Pipeline] = {}
    for path in sorted(path for path in folder.glob("*.yml") if not path.name.endswith(_SEMANTICS)):
        pipeline = load_pipeline(path, faults_of)
        if pipeline.name in found:
            raise PipelineInvalid(
                f"{path}: the name {pipeline.name!r} is already used.", next_step="Rename one of the pipelines."
            )
        found[pipeline.name] = pipeline
    if not found:
        raise PipelineInvalid(
            f"No pipeline file (*.yml) in {folder}.", next_step="Set EXPLORER_PROJECT_DIR to the checkout."
        )
    return found


def load_pipeline(path: Path, faults_of: FaultsOf | None = None) -> Pipeline:
    """Read one pipeline file. `faults_of`: finds faults beyond the file's shape, which are reported in the same way
    (`explorer.providers.faults_of`).

    Raises:
        PipelineInvalid: names the file, the line and the key of the first faults.
    """
    try:
        file = TypedYaml(path)
        pipeline = file.value_of(Pipeline)
        faults = list(faults_of(pipeline)) if faults_of else []
        if faults:
            raise file.invalid(faults)
    except YamlInvalid as error:
        raise _invalid(error) from None
    return pipeline


def read_file(path: Path, model: type[M]) -> M:
    """A file of `pipelines/` as a value of `model`.

    Raises:
        PipelineInvalid: names the file, the line and the key of the first faults.
    """
    try:
        return TypedYaml(path).value_of(model)
    except YamlInvalid as error:
        raise _invalid(error) from None


def _invalid(error: YamlInvalid) -> PipelineInvalid:
    return PipelineInvalid(str(error), next_step=error.hint or "Correct the named keys; docs/pipelines.md lists them.")
