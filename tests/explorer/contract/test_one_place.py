"""Tags and metadata labels are spelt only in `explorer/contract`: both sides use its records."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
# `explorer/retry`, `.explorer/worker`, `dagster/row_count`: keys of tags and of metadata.
KEY = re.compile(r"\.?(explorer|dagster)/[a-z_]+")
SCHEMA = re.compile(r"_(raw|raw_staging|staging|marts|rw|ro)$")
# A path of the product's package, not a key.
PATHS = {"explorer/providers"}
# Tags of assets and columns, which nobody reads but people.
OF_DEFINITIONS = {"'layer'", "'made_from'"}
# The metadata of a field of a Parquet file.
OF_FILES = {"'postgres_type'"}
ROOMS = ("benchmarks", "explorer", "explorer_cli", "explorer_dagster", "mcp_bridge")


def modules(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "contract" not in path.relative_to(ROOT).parts:
                yield path


def documentation(tree: ast.AST) -> set[ast.AST]:
    """The docstrings of a module: they may speak of keys."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                found.add(first.value)
    return found


def spelt_keys(tree: ast.AST) -> list[str]:
    told = documentation(tree)
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told
    ]
    return [text for text in texts if KEY.fullmatch(text) and text not in PATHS]


def looked_up(tree: ast.AST) -> list[str]:
    """Lookups by a written label in something that is called `metadata` or `tags`, and metadata given as a written dict."""
    found = []
    for node in ast.walk(tree):
        if (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and named(node.value)) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and named(node.func.value)
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg in ("metadata", "tags") and isinstance(node.value, ast.Dict):
            found += [ast.unparse(key) for key in node.value.keys if isinstance(key, ast.Constant)]
    return [each for each in found if each not in OF_DEFINITIONS | OF_FILES]


def named(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in ("metadata", "tags")


def names_of_schemas(tree: ast.AST) -> list[str]:
    """`f"{prefix}_marts"`: a schema's or a role's name made by hand."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        and isinstance(node.values[-1], ast.Constant)
        and "prefix" in ast.unparse(node)
        and "asset_prefix" not in ast.unparse(node)
        and SCHEMA.fullmatch(str(node.values[-1].value))
    ]


def found_in(rooms: Iterable[str], look: Callable[[ast.AST], list[str]]) -> dict[str, list[str]]:
    """What `look` finds, by file."""
    found = {path: look(ast.parse(path.read_text(encoding="utf-8"))) for path in modules(*rooms)}
    assert len(found) > 10
    return {str(path.relative_to(ROOT)): texts for path, texts in found.items() if texts}


def test_keys_come_from_the_contract() -> None:
    assert found_in(ROOMS, spelt_keys) == {}


def test_names_of_schemas_and_roles_come_from_the_contract() -> None:
    assert found_in(ROOMS, names_of_schemas) == {}


def test_metadata_and_tags_are_written_and_read_as_records() -> None:
    assert found_in(("explorer_dagster", "mcp_bridge"), looked_up) == {}


def test_the_search_finds_what_it_looks_for() -> None:
    tree = ast.parse(
        'x = run.tags.get("explorer/retry"); y = event.metadata["rows"]; z = f"{prefix}_marts"\n'
        'result(metadata={"rows": 1})\n'
    )
    assert spelt_keys(tree) == ["explorer/retry"]
    assert len(looked_up(tree)) == 3
    assert names_of_schemas(tree) == ["f'{prefix}_marts'"]
