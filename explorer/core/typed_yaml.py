"""How is a YAML file that people write read? As a typed value, with every fault reported as file, line and key."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
# A fault: its place in the file (keys and positions), and the message.
Fault = tuple[tuple[int | str, ...], str]
_MOST_FAULTS = 5


class YamlInvalid(ValueError):
    """The file is missing, is not YAML, or has an invalid value. `hint`: what to do now, where it is not to correct the keys."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class TypedYaml:
    """One file: its text's structure, and `value_of` its type."""

    def __init__(self, path: Path) -> None:
        """Raises: YamlInvalid."""
        self._path = path
        try:
            text = path.read_text(encoding="utf-8")
            self._node = yaml.compose(text, Loader=yaml.SafeLoader)
            self._data: Any = yaml.safe_load(text)
        except OSError as error:
            raise YamlInvalid(
                f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions."
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}" if mark else ""
            raise YamlInvalid(f"{path}{where}: not valid YAML: {_first_line(error)}", "Correct the line.") from None

    def value_of(self, model: type[M]) -> M:
        """The file as a value of `model`. Raises: YamlInvalid."""
        if not isinstance(self._data, dict):
            raise YamlInvalid(f"{self._path}:1: the file is a mapping of keys.")
        try:
            value = model.model_validate(self._data)
        except ValidationError as error:
            raise self.invalid((fault["loc"], fault["msg"]) for fault in error.errors()) from None
        if faults := list(_repeated(self._node)):
            raise self.invalid(faults)
        return value

    def invalid(self, faults: Iterable[Fault]) -> YamlInvalid:
        """An error that names the places of the first faults."""
        return YamlInvalid("; ".join([self._described(*fault) for fault in faults][:_MOST_FAULTS]))

    def _described(self, place: tuple[int | str, ...], message: str) -> str:
        key = ".".join(str(part) for part in place) or "(file)"
        return f"{self._path}:{_line_of(self._node, place)}: {key}: {message}"


def _repeated(node: yaml.Node | None, place: tuple[int | str, ...] = ()) -> Iterator[Fault]:
    """Keys given twice in one mapping: YAML's loader silently takes the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            if name in seen and name != "<<":
                yield (*place, name), "the key is given twice"
            seen.add(name)
            yield from _repeated(value, (*place, name))
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _repeated(value, (*place, position))


def _line_of(node: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """The line of the deepest existing part of `place`: a missing key is reported at its parent."""
    line = 1
    for part in place:
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
