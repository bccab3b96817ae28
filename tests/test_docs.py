"""The manual is true: error codes, links, paths, commands, columns of marts, and the docs that docstrings name."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from explorer.http import errors as http_errors
from explorer.http.errors import ApiError, NotAllowed
from explorer_cli.main import app
from mcp_bridge.sql.errors import QueryFailed, QueryRejected

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("demo_commcare", "explorer", "explorer_cli", "explorer_dagster", "mcp_bridge")
FOLDERS = (*PACKAGES, "benchmarks", "dbt_project", "devtools", "docs", "pipelines", "tests")
MANUALS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("explorer/providers/*/README.md"),
        ROOT / "demo_commcare" / "README.md",
    ]
)
# Decisions are history: they name things that existed then.
PRESENT = [path for path in MANUALS if path.parent.name != "decisions"]
CODED_CALLS = {"QueryFailed", "QueryRejected", "ToolFailed", "reject"}
COMMANDS: Any = typer.main.get_command(app)

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"`(\.?[\w./-]+)`(\s+\(new\))?")
_IMPORT = re.compile(r"\bfrom ([\w.]+) import (\w+)")


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def text_of(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def class_constants(tree: ast.Module, name: str) -> Iterator[str | None]:
    """The texts of the constant with this name in the module's classes."""
    for node in ast.walk(tree):
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(line, ast.Assign | ast.AnnAssign):
                targets = line.targets if isinstance(line, ast.Assign) else [line.target]
                if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                    yield text_of(line.value)


def api_codes() -> set[str]:
    """Codes of the errors that providers' servers cause; a provider's own class replaces the general one that it refines."""
    codes = set()
    for path in (ROOT / "explorer" / "providers").glob("*/errors.py"):
        module = importlib.import_module(f"explorer.providers.{path.parent.name}.errors")
        own = {
            value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
        }
        general = {
            value for value in vars(http_errors).values() if isinstance(value, type) and issubclass(value, ApiError)
        }
        # Never raised themselves, or not by a provider with a class of its own.
        abstract = {NotAllowed, *(base for error in own for base in error.__bases__)}
        codes |= {error.code_for(path.parent.name) for error in general | own if error not in abstract}
    return codes


def codes_in(tree: ast.Module) -> Iterator[str | None]:
    yield from class_constants(tree, "code")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield from (
                text_of(value) for key, value in zip(node.keys, node.values, strict=True) if text_of(key) == "code"
            )
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in CODED_CALLS:
                yield text_of(node.args[0])


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes for a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spans(text: str) -> Iterator[str]:
    """The code on a page: lines of shell blocks and inline spans."""
    for block in _FENCE.findall(text):
        yield from block.splitlines()
    yield from _SPAN.findall(_FENCE.sub("", text))


def command_lines() -> list[tuple[str, str]]:
    found = []
    for path in MANUALS:
        for span in spans(path.read_text(encoding="utf-8")):
            for line in re.split(r"&&|#|;", span):
                if re.match(r"\s*(\$ )?explorer( |$)", line):
                    found.append((path.name, line.strip()))
    return found


def test_every_error_code_is_in_the_manual() -> None:
    codes = {code for _, tree in modules() for code in codes_in(tree) if code} | api_codes()
    for coded in (QueryRejected, QueryFailed):
        codes |= set(re.findall(r"`([a-z_]+)`", (coded.__doc__ or "").partition("Codes:")[2]))
    explained = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")))
    assert len(codes) > 80
    assert codes - explained == set()


def test_the_manual_explains_no_error_code_that_is_gone() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path, _ in modules())
    table = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Error codes")[2]
    listed = [
        code for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)
    ]
    assert len(listed) == len(set(listed)) > 80
    written = [code for code in listed if f'"{code}"' in source or f"`{code}`" in source]
    assert set(listed) - set(written) - api_codes() == set()


@pytest.mark.parametrize("path", MANUALS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_images_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def missing_paths(text: str) -> list[str]:
    """Files and folders of this repository that a page names and that do not exist, except those that the page calls new.

    It checks paths from the root, and names of source files, which may leave out the folder that the page is about.
    """
    wrong = []
    for name, new in _PATH.findall(_FENCE.sub("", text)):
        first, _, rest = name.partition("/")
        if first in FOLDERS and (name.endswith("/") or "." in rest):
            there = (ROOT / name).exists()
        elif name.endswith(".py"):
            there = not rest and any(next((ROOT / folder).rglob(name), None) for folder in FOLDERS)
        else:
            continue
        if not there and not new:
            wrong.append(name)
    return wrong


def test_paths_are_told_from_other_code() -> None:
    there = "`explorer/core/home.py` `home.py` `pipelines/` `case/v2/` `explorer/retry` `dlt/<prefix>/` `pipelines/new.yml` (new)"
    assert missing_paths(there) == []
    gone = "`explorer/core/lost.py` `lost.py` `core/home.py` `docs/lost/`"
    assert missing_paths(gone) == [
        "explorer/core/lost.py",
        "lost.py",
        "core/home.py",
        "docs/lost/",
    ]


@pytest.mark.parametrize("path", PRESENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_lead_somewhere(path: Path) -> None:
    assert missing_paths(path.read_text(encoding="utf-8")) == []


def test_python_of_the_manual_imports_what_is_there() -> None:
    imports = [line for path in PRESENT for line in _IMPORT.findall(path.read_text(encoding="utf-8"))]
    assert len(imports) > 3
    wrong = [(module, name) for module, name in imports if not hasattr(importlib.import_module(module), name)]
    assert wrong == []


def test_docs_named_in_docstrings_exist() -> None:
    named = {name for path, _ in modules() for name in re.findall(r"docs/[\w/]+\.md", path.read_text(encoding="utf-8"))}
    assert {"docs/commcare_api.md", "docs/pipelines.md"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_commands_and_their_options_exist() -> None:
    lines = command_lines()
    assert len(lines) > 20
    unknown = []
    for name, line in lines:
        # What follows -- belongs to another program.
        ours = line.removeprefix("$ ").partition(" -- ")[0]
        words = re.findall(r"[^\s\[\]]+", ours)[1:]
        command = COMMANDS
        while words and words[0].isalpha() and words[0].islower() and hasattr(command, "commands"):
            command = command.commands.get(words.pop(0))
            if command is None:
                break
        options = {option for parameter in getattr(command, "params", ()) for option in parameter.opts} | {"--help"}
        if command is None or any(word.startswith("--") and word not in options for word in words):
            unknown.append((name, line))
    assert unknown == []


def test_every_command_is_in_the_readme() -> None:
    """The table names the commands of a group after the first without repeating the group."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in COMMANDS.commands.items():
        row = next((line for line in readme.splitlines() if re.match(rf"\|.*`(explorer )?{name}\b", line)), None)
        assert row is not None, name
        for child in getattr(command, "commands", {}):
            assert re.search(rf"`(explorer {name} )?{child}\b", row), f"{name} {child}"
