"""What do our modules use of other distributions and of the standard library, and what do they change in their process?

Read from the source text: imports, attributes, and names in texts (as for `getattr` and `import_module`). An attribute of which
the text does not say whose it is counts as ours when a class of ours has it: in the product one of the same module.
"""

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from devtools.imports import Module, imports_of

_ACCESSORS = frozenset({"getattr", "setattr", "delattr", "hasattr", "attrgetter", "methodcaller"})
_CHANGING_METHODS = frozenset(
    {"update", "setdefault", "pop", "popitem", "clear", "append", "insert", "extend", "remove"}
)
_PLACES = ("os.environ", "sys.path", "sys.modules")
_CHANGING_CALLS = frozenset({
    "asyncio.set_event_loop_policy", "faulthandler.enable", "gc.disable", "gc.enable", "gc.freeze",
    "gc.set_threshold", "locale.setlocale", "logging.basicConfig", "logging.captureWarnings", "logging.disable",
    "multiprocessing.set_start_method", "os.chdir", "os.nice", "os.putenv", "os.umask", "os.unsetenv",
    "resource.setrlimit", "signal.pthread_sigmask", "signal.set_wakeup_fd", "signal.setitimer", "signal.signal",
    "socket.setdefaulttimeout", "sys.setprofile", "sys.setrecursionlimit", "sys.setswitchinterval",
    "sys.settrace", "threading.stack_size", "time.tzset", "warnings.filterwarnings", "warnings.simplefilter",
})  # fmt: skip
_LOGGER_METHODS = frozenset({"addFilter", "addHandler", "removeHandler", "setLevel"})


@dataclass(frozen=True, order=True, slots=True)
class Use:
    """A dotted name that a module of ours uses. `*.name`: the text does not say of what."""

    module: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.name}"


@dataclass(frozen=True, slots=True)
class _Class:
    bases: tuple[str, ...]
    names: frozenset[str]


class Sources:
    """Modules of ours, with their classes. `apart`: the packages that may read private names of any room: the tests."""

    def __init__(self, modules: Mapping[str, Module], apart: frozenset[str] = frozenset()) -> None:
        self._modules, self._apart = modules, apart
        self._packages = frozenset(name.partition(".")[0] for name in modules)
        self._classes = dict(_classes(modules))

    @cached_property
    def foreign_names(self) -> dict[str, list[Use]]:
        """For each module of ours the dotted names of others that it imports, reads, or has as a text."""
        return {name: list(self._foreign(module)) for name, module in self._modules.items()}

    def private_names(self) -> list[Use]:
        """Every underscore name of others, and every attribute that nobody of ours has."""
        return sorted({use for module in self._modules.values() for use in self._private(module)})

    def foreign_modules(self) -> list[Use]:
        """Every module of another distribution that is imported, reached or named."""
        names = (use for uses in self.foreign_names.values() for use in uses)
        return sorted({Use(use.module, name, use.line) for use in names for name in _module_of(use.name)})

    def changes(self) -> list[Use]:
        """What is replaced in a module or class of others, and what is changed in the whole process."""
        changed = (use for module in self._modules.values() for use in _changes(module))
        return sorted({use for use in changed if not self._is_ours(use.name.removeprefix("logging.getLogger('"))})

    def inheriting(self) -> dict[str, tuple[list[str], frozenset[str]]]:
        """Our classes that inherit from others: the others' classes, and the private names that are ours."""
        found = {}
        for name in self._classes:
            line = self._line(name)
            foreign = [each for each in line if not self._is_ours(each) and "." in each]
            own = (part for each in line if each in self._classes for part in self._classes[each].names)
            if foreign:
                found[name] = (foreign, frozenset(filter(is_private, own)))
        return found

    def _is_ours(self, name: str) -> bool:
        return re.split(r"\W", name, maxsplit=1)[0] in self._packages

    def _foreign(self, module: Module) -> Iterator[Use]:
        for found in imports_of(module):
            if not self._is_ours(found.target):
                yield Use(module.name, f"{found.target}.{found.name}".rstrip("."), found.line)
        inner = {id(node.value) for node in _nodes(module) if isinstance(node, ast.Attribute)}
        for node in _nodes(module):
            name = None if id(node) in inner else _named(node, _aliases(module))
            if name and "." in name and not self._is_ours(name):
                yield Use(module.name, name, getattr(node, "lineno", 0))

    def _private(self, module: Module) -> Iterator[Use]:
        yield from {_up_to_private(use) for use in self.foreign_names[module.name] if is_private(use.name)}
        known = _aliases(module)
        for owner, node in _with_class(module):
            attribute, of = _attribute(node)
            if attribute and of is not None and is_private(attribute) and _dotted(of, known) is None:
                name = self._unowned(module, owner, attribute, of)
                if name:
                    yield Use(module.name, name, getattr(node, "lineno", 0))

    def _unowned(self, module: Module, owner: str, attribute: str, of: ast.expr) -> str | None:
        """The name by which an attribute is reported that no class of ours has."""
        if owner and _is_self(of):
            line = self._line(owner)
            if any(attribute in self._classes[name].names for name in line if name in self._classes):
                return None
            return next((f"{name}.{attribute}" for name in line if not self._is_ours(name)), f"{owner}.{attribute}")
        apart = module.name.partition(".")[0] in self._apart
        owners = (c for name, c in self._classes.items() if apart or name.rpartition(".")[0] == module.name)
        return None if any(attribute in each.names for each in owners) else f"*.{attribute}"

    def _line(self, name: str) -> list[str]:
        """A class of ours and all that it inherits from, by dotted name."""
        line = [name]
        for each in line:
            line += [base for base in (self._classes[each].bases if each in self._classes else ()) if base not in line]
        return line


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def _up_to_private(use: Use) -> Use:
    """`dagster._core.x.Name.attribute` stays as it is up to its first public name after the private one."""
    parts = use.name.split(".")
    last = max(number for number, part in enumerate(parts) if is_private(part))
    ends = next((n for n in range(last + 1, len(parts)) if not _is_module(".".join(parts[: n + 1]))), len(parts) - 1)
    return Use(use.module, ".".join(parts[: ends + 1]), use.line)


def _names_a_library(text: str) -> bool:
    if not re.fullmatch(r"[a-z]\w*(\.\w+)+", text):
        return False
    return (
        text.partition(".")[0] not in sys.stdlib_module_names
        and _is_module(text.partition(".")[0])
        and (is_private(text) or _is_module(text))
    )


@cache
def _is_module(name: str) -> bool:
    """Whether such a module is installed; found by its file, without importing its package."""
    package, _, last = name.rpartition(".")
    if not package:
        return importlib.util.find_spec(name) is not None
    return any((place / last).is_dir() or any(place.glob(f"{last}.*")) for place in _folders(package))


@cache
def _folders(package: str) -> tuple[Path, ...]:
    parent, _, last = package.rpartition(".")
    if parent:
        return tuple(place / last for place in _folders(parent) if (place / last).is_dir())
    spec = importlib.util.find_spec(package)
    return tuple(map(Path, spec.submodule_search_locations or ())) if spec else ()


def _module_of(name: str) -> list[str]:
    """The longest beginning of a dotted name that is a module of another distribution."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names:
        return []
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return [each for each in names if each == parts[0] or _is_module(each)][-1:]


@cache
def _nodes(module: Module) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(module.tree))


@cache
def _aliases(module: Module) -> dict[str, str]:
    """The names that imports bind anywhere in a module -> what they mean."""
    bound = {}
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            for each in node.names:
                bound[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for each in node.names:
                bound[each.asname or each.name] = f"{node.module}.{each.name}"
    return bound


def _dotted(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """`known` name and attributes of it, as one dotted name; None for any other expression."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and (value := _dotted(node.value, known)) is not None:
        return f"{value}.{node.attr}"
    return None


def _named(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """The dotted name that a node means: an attribute of something imported, or a text."""
    if isinstance(node, ast.Attribute):
        return _dotted(node, known)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value if _names_a_library(node.value) else None
    return _accessed(node, known)


def _attribute(node: ast.AST) -> tuple[str, ast.expr | None]:
    """The attribute that an expression reads or writes, also by `getattr` and `__dict__`, and of what."""
    if isinstance(node, ast.Attribute):
        return node.attr, node.value
    if isinstance(node, ast.Call) and _called(node) in _ACCESSORS:
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        return (texts[0] if texts else ""), node.args[0] if node.args else None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        of = node.value
        if isinstance(of, ast.Attribute) and of.attr == "__dict__":
            return node.slice.value, of.value
        if isinstance(of, ast.Call) and _called(of) == "vars" and of.args:
            return node.slice.value, of.args[0]
    return "", None


def _accessed(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """The dotted name that `getattr(library, "name")` or `monkeypatch.setattr(library, "name", ...)` means."""
    attribute, of = _attribute(node)
    value = _dotted(of, known) if of is not None else None
    return f"{value}.{attribute}" if value and attribute else None


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return _called(node) in ("super", "type")
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _with_class(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node with the dotted name of the class around it."""

    def inside(node: ast.AST, owner: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            yield owner, child
            yield from inside(child, f"{module.name}.{child.name}" if isinstance(child, ast.ClassDef) else owner)

    yield from inside(module.tree, "")


def _classes(modules: Mapping[str, Module]) -> Iterator[tuple[str, _Class]]:
    for module in modules.values():
        for node in _nodes(module):
            if isinstance(node, ast.ClassDef):
                yield f"{module.name}.{node.name}", _class(module, node, _aliases(module))


def _class(module: Module, node: ast.ClassDef, known: Mapping[str, str]) -> _Class:
    bases = []
    for base in node.bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        bases.append(_dotted(plain, known) or f"{module.name}.{ast.unparse(plain)}")
    names = set()
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(each.name)
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names.add(each.id)
        elif isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and _is_self(each.value):
            names.add(each.attr)
        elif isinstance(each, ast.Call) and ast.unparse(each.func) == "object.__setattr__":
            names |= {arg.value for arg in each.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return _Class(tuple(bases), frozenset(names))


def _changes(module: Module) -> Iterator[Use]:
    known = _aliases(module)
    for found in imports_of(module):
        if found.top == "ctypes":
            yield Use(module.name, "ctypes", found.line)
    for node in _nodes(module):
        name = _stored(node, known) or _changed_by_call(node, known)
        if name:
            yield Use(module.name, name, getattr(node, "lineno", 0))


def _stored(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """What an assignment or `del` replaces: an attribute of something imported, or an entry of the environment."""
    if isinstance(node, ast.AugAssign):
        name = _dotted(node.target, known)
        return name if name in _PLACES else None
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        name = _dotted(node if isinstance(node, ast.Attribute) else node.value, known)
        return name if isinstance(node, ast.Attribute) or name in _PLACES else None
    return None


def _changed_by_call(node: ast.AST, known: Mapping[str, str]) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    if _called(node) in ("setattr", "delattr"):
        return _accessed(node, known)
    name = _dotted(node.func, known)
    if name in _CHANGING_CALLS:
        return name
    if not isinstance(node.func, ast.Attribute):
        return None
    of = node.func.value
    if node.func.attr in _CHANGING_METHODS:
        return place if (place := _dotted(of, known)) in _PLACES else None
    if (
        node.func.attr in _LOGGER_METHODS
        and isinstance(of, ast.Call)
        and _dotted(of.func, known) == "logging.getLogger"
    ):
        return f"logging.getLogger({', '.join(map(ast.unparse, of.args))})"
    return None
