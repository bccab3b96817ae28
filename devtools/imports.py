"""Reads imports from the source text, so that imports in functions or under conditions count too."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("benchmarks", "demo_commcare", "explorer", "explorer_cli", "explorer_dagster", "mcp_bridge")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `module` imports `name` from the module `target`.

    `name` is empty for `import target`. `function` is the function that contains the import, empty at the top of a module.
    """

    module: str
    line: int
    target: str
    name: str = ""
    function: str = ""
    type_checking: bool = False

    @property
    def top(self) -> str:
        """The top package of the target, from a distribution or ours."""
        return self.target.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Module:
    """One of our source files. `name` is dotted; a package's name means its `__init__.py`."""

    name: str
    path: Path
    is_package: bool
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that contains it; for an `__init__.py` the package itself."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


def read_modules(root: Path = ROOT, packages: Iterable[str] = PACKAGES) -> dict[str, Module]:
    """All modules of the packages under `root`, by dotted name."""
    modules = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = Module(name, path, is_package, ast.parse(path.read_text(encoding="utf-8")))
    return modules


def imports_of(module: Module) -> list[Import]:
    """Every import of the module, in the order of its text."""
    return sorted(_imports(module, module.tree, "", False), key=lambda found: found.line)


def internal_edges(modules: dict[str, Module]) -> dict[str, set[str]]:
    """For each module those of our modules that it imports; `from package import module` imports the module."""
    return {
        name: {
            target
            for found in imports_of(module)
            if (target := _resolved(found, modules)) is not None and target != name
        }
        for name, module in modules.items()
    }


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (strongly connected, more than one node), each sorted (Tarjan)."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            cut = stack.index(node)
            group = sorted(stack[cut:])
            del stack[cut:]
            if len(group) > 1:
                found.append(group)

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def _resolved(found: Import, modules: dict[str, Module]) -> str | None:
    inner = f"{found.target}.{found.name}"
    if inner in modules:
        return inner
    return found.target if found.target in modules else None


def _imports(module: Module, node: ast.AST, function: str, type_checking: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module.name, child.lineno, alias.name, "", function, type_checking)
        elif isinstance(child, ast.ImportFrom):
            target = _absolute(module, child)
            for alias in child.names:
                yield Import(module.name, child.lineno, target, alias.name, function, type_checking)
        else:
            inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            yield from _imports(module, child, inside, type_checking or _is_type_checking(child))


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(
        (isinstance(part, ast.Name) and part.id == "TYPE_CHECKING")
        or (isinstance(part, ast.Attribute) and part.attr == "TYPE_CHECKING")
        for part in ast.walk(node.test)
    )
