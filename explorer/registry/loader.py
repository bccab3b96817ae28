"""How are pipeline files read? YAML to typed values, with every fault reported as file, line and key."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from explorer.core.errors import ExplorerError
from explorer.registry.models import Pipeline


class PipelineInvalid(ExplorerError):
    """A pipeline file is missing, is not YAML, or has an invalid value."""

    code = "pipeline_invalid"


M = TypeVar("M", bound=BaseModel)
_MOST_FAULTS = 5
# Files of the semantic layer have this ending (`semantics`).
_SEMANTICS = ".semantics.yml"
# A fault: its place in the file (keys and positions), and the message.
Fault = tuple[tuple[int | str, ...], str]
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
    pipeline, node = _read(path, Pipeline)
    faults = list(faults_of(pipeline)) if faults_of else []
    if faults:
        raise _invalid(path, node, faults)
    return pipeline


def read_file(path: Path, model: type[M]) -> M:
    """A file of `pipelines/` as a value of `model`.

    Raises:
        PipelineInvalid: names the file, the line and the key of the first faults.
    """
    return _read(path, model)[0]


def _read(path: Path, model: type[M]) -> tuple[M, yaml.Node | None]:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineInvalid(
            f"{path} cannot be read: {error.strerror}.", next_step="Check the path and its permissions."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise PipelineInvalid(
            f"{path}{where}: not valid YAML: {_first_line(error)}", next_step="Correct the line."
        ) from None
    if not isinstance(data, dict):
        raise PipelineInvalid(f"{path}:1: a pipeline file is a mapping of keys.", next_step="See docs/pipelines.md.")
    try:
        return model.model_validate(data), node
    except ValidationError as error:
        raise _invalid(path, node, [(fault["loc"], fault["msg"]) for fault in error.errors()]) from None


def _invalid(path: Path, node: yaml.Node | None, faults: list[Fault]) -> PipelineInvalid:
    described = [_describe(path, node, where, message) for where, message in faults[:_MOST_FAULTS]]
    return PipelineInvalid("; ".join(described), next_step="Correct the named keys; docs/pipelines.md lists them.")


def _describe(path: Path, node: yaml.Node | None, loc: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in loc) or "(file)"
    return f"{path}:{_line_of(node, loc)}: {key}: {message}"


def _line_of(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """The line of the deepest existing part of `loc`: a missing key is reported at its parent."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if getattr(k, "value", None) == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
