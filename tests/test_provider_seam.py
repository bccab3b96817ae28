"""A provider is a folder: only its own files name it."""

import re
from pathlib import Path

import pytest

from explorer.providers import UnknownProvider, provider_named, provider_names

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("explorer", "explorer_dagster", "explorer_cli", "mcp_bridge", "dbt_project")
SUFFIXES = (".py", ".sql", ".yml", ".json", ".gql", ".toml", ".md")
# The places of a provider's own files.
HOMES = ("explorer/providers/{}/", "dbt_project/models/{}/", "dbt_project/macros/{}/", "dbt_project/tests/{}/")
# What dbt leaves in the project when somebody runs it there.
LEFT_BY_DBT = ("dbt_project/target/", "dbt_project/logs/")
# Other files that may name a provider, and why. The list may only shrink.
NAMED_IN = {
    "explorer_cli/commands/platform.py": "the demo: the switch that leaves its server out",
    "explorer_cli/operations/demo.py": "the demo: its tenants are of an invented server of this provider",
    "explorer_cli/operations/lifecycle.py": "the demo: its server's line after `explorer up`",
    "explorer_cli/platform/demo_server.py": "the demo: starts that server",
    "explorer_cli/main.py": "help is shown before any pipeline is read",
    "explorer_cli/commands/tenants.py": "help is shown before any pipeline is read",
}
# The file names that every provider's folder has.
FILES = {
    "README.md",
    "__init__.py",
    "api.py",
    "credentials.py",
    "paging.py",
    "provider.py",
    "servers.py",
    "settings.py",
}

# Names that are no English word: in any spelling they mean the provider.
UNMISTAKABLE = {"commcare"}


def is_named(name: str, title: str, line: str) -> bool:
    """Whether the line names the provider: by its name as a module, a folder or a text, or by its title."""
    if name in UNMISTAKABLE:
        return name in line.lower()
    return bool(re.search(rf"providers[./]{name}\b|[\"'`/]{name}[\"'`/]|\b{re.escape(title)}\b", line))


def places(name: str) -> dict[str, list[int]]:
    """By file, the lines that contain the name in any case, without the provider's own folders."""
    found: dict[str, list[int]] = {}
    title = provider_named(name).title
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            relative = path.relative_to(ROOT).as_posix()
            if path.suffix not in SUFFIXES or relative.startswith(
                (*LEFT_BY_DBT, *(home.format(name) for home in HOMES))
            ):
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            numbers = [number for number, line in enumerate(lines, 1) if is_named(name, title, line)]
            if numbers:
                found[relative] = numbers
    return found


def test_a_provider_is_told_from_a_word() -> None:
    meant = [
        "from explorer.providers.connect.api import X",
        'name = "connect"',
        "# CommCare Connect has none",
        "a/connect/b",
    ]
    assert all(is_named("connect", "CommCare Connect", line) for line in meant)
    assert is_named("commcare", "CommCare HQ", "class CommcareApi:")
    others = ["psycopg.connect(dsn)", "def connect(self):", "# connect again", "provider.connected"]
    assert not any(is_named("connect", "CommCare Connect", line) for line in others)


@pytest.mark.parametrize("name", provider_names())
def test_nothing_outside_a_providers_folder_names_it(name: str) -> None:
    assert {file: lines for file, lines in places(name).items() if file not in NAMED_IN} == {}


def test_each_exception_is_needed() -> None:
    named = {file for name in provider_names() for file in places(name)}
    assert NAMED_IN.keys() <= named


@pytest.mark.parametrize("name", provider_names())
def test_a_providers_folder_has_the_files_that_one_looks_for(name: str) -> None:
    folder = ROOT / "explorer" / "providers" / name
    assert {path.name for path in folder.iterdir()} >= FILES
    provider = provider_named(name)
    assert provider.name == name
    assert provider.title
    assert provider.credential_kinds


def test_the_smallest_provider_has_these_files_and_one_for_its_tables() -> None:
    folder = ROOT / "tests" / "e2e" / "tiny_provider" / "overlay" / "explorer" / "providers" / "tiny"
    assert {path.name for path in folder.iterdir() if path.name != "__pycache__"} == FILES | {"tables.py"}


def test_an_unknown_provider_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownProvider) as refused:
        provider_named("commcare.client")
    assert refused.value.details == {"providers": list(provider_names())}
    assert "commcare" in refused.value.next_step
