"""`explorer tenants import`: many tenants from one file. Secrets are not in it, but the names of variables that hold them.

A file that was read once may be read again: tenants that are there stay as they are.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from explorer.catalog import OPERATOR, Tenant
from explorer.catalog.coordination.syncs import CHOICES, chosen_of
from explorer.core.errors import ExplorerError, UnknownTenant
from explorer.core.settings import Settings
from explorer.providers import faults_of
from explorer.registry import Pipeline, load_pipelines
from explorer_cli.errors import UsageInvalid
from explorer_cli.operations.tenants.registering import CredentialOptions, add_to, chosen_provider, register_partitions
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store

_VARIABLE = "_env"
_PLACE = ("key", "server", "domain")
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})


@dataclass(frozen=True)
class _Line:
    """One tenant of the file. `number`: of its entry, from 1, or of the line where it ends; `given`: column to text, without
    empty ones."""

    number: int
    given: Mapping[str, str]

    @property
    def credential(self) -> CredentialOptions:
        """All columns that are nothing else; those that end with `_env` name variables."""
        other = {name: text for name, text in self.given.items() if name not in (*_PLACE, "provider", *CHOICES)}
        variables = {name.removesuffix(_VARIABLE): text for name, text in other.items() if name.endswith(_VARIABLE)}
        return CredentialOptions(
            {name: text for name, text in other.items() if not name.endswith(_VARIABLE)}, variables
        )

    @property
    def choices(self) -> dict[str, Any]:
        """What is chosen for its schedule."""
        found: dict[str, Any] = {name: self.given[name] for name in CHOICES if name in self.given}
        for name in ("requests_per_day", "fresh_within_minutes"):
            if name in found:
                if not found[name].isdecimal():
                    raise UsageInvalid(f"{name} is no number.", next_step="Write how many, or leave it empty.")
                found[name] = int(found[name])
        if "stopped" in found:
            word = found["stopped"].lower()
            if word not in _YES | _NO:
                raise UsageInvalid("stopped is neither yes nor no.", next_step="Write yes or no, or leave it empty.")
            found["stopped"] = word in _YES
        return found


def import_file(file: Path, *, dry_run: bool, as_json: bool) -> int:
    """Add the file's tenants one after the other. A line that fails stops no other. Returns 1 when one did."""
    settings = open_settings()
    lines = list(_read(file))
    with open_store(settings) as store:
        results = [_outcome(settings, store, line, dry_run=dry_run) for line in lines]
        added = [str(result["key"]) for result in results if result["outcome"] == "added"]
        if added:
            register_partitions(settings, added)
    failed = [result for result in results if result["outcome"] == "failed"]
    if as_json:
        answer_json({"dry_run": dry_run, "tenants": results})
    else:
        told = [result for result in results if result["outcome"] == "failed" or dry_run]
        if told:
            show_table(("Line", "Key", "Outcome", "Why"), [list(result.values())[:4] for result in told])
        counts = [
            f"{[r['outcome'] for r in results].count(word)} {word}"
            for word in ("added", "would be added", "there already")
        ]
        say(
            f"{', '.join(count for count in counts if not count.startswith('0 ')) or 'Nothing was done'}; {len(failed)} failed."
        )
    return 1 if failed else 0


def _read(file: Path) -> Iterator[_Line]:
    """The tenants of the file. Raises: UsageInvalid."""
    try:
        if file.suffix.lower() in (".yml", ".yaml"):
            rows = yaml.safe_load(file.read_text(encoding="utf-8"))
            numbers = list(range(1, len(rows) + 1)) if isinstance(rows, list) else []
        else:
            with file.open(encoding="utf-8-sig", newline="") as opened:
                reader = csv.DictReader(opened)
                found = [(reader.line_num, row) for row in reader]
            numbers, rows = [number for number, _ in found], [row for _, row in found]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, csv.Error) as error:
        raise UsageInvalid(
            f"{file} cannot be read: {type(error).__name__}.",
            next_step="Give a CSV file with a header line, or a YAML list.",
        ) from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageInvalid(f"{file} lists no tenants.", next_step="Give a CSV file with a header line, or a YAML list.")
    for number, row in zip(numbers, rows, strict=True):
        texts = {str(name).strip(): str(value).strip() for name, value in row.items() if value not in (None, "")}
        if "external_id" in texts:
            texts["domain"] = texts.pop("external_id")
        yield _Line(number, texts)


def _outcome(settings: Settings, store: Store, line: _Line, *, dry_run: bool) -> dict[str, object]:
    row: dict[str, object] = {"line": line.number, "key": line.given.get("key", "")}
    try:
        return {**row, "outcome": _add(settings, store, line, dry_run=dry_run), "why": ""}
    except ExplorerError as error:
        return {**row, "outcome": "failed", "why": f"{error.message} {error.next_step}".strip(), "code": error.code}


def _add(settings: Settings, store: Store, line: _Line, *, dry_run: bool) -> str:
    """What was done, or would be. Raises: UsageInvalid, and what adding raises."""
    if missing := [name for name in _PLACE if name not in line.given]:
        raise UsageInvalid(f"{' and '.join(missing)} is missing.", next_step="Fill the column.")
    given = line.given
    provider = chosen_provider(settings, given.get("provider"))
    server, external_id = provider.normalize_server(given["server"]), provider.check_external_id(given["domain"])
    pipelines = load_pipelines(settings.project_dir / "pipelines", faults_of).values()
    pipeline = next((each for each in pipelines if each.provider == provider.name), None)
    chosen = chosen_of(pipeline, line.choices) if pipeline is not None else {}
    credential = line.credential.read(provider, server)
    try:
        there = store.catalog.tenants.get(given["key"])
    except UnknownTenant:
        there = None
    if there is not None and (there.server, provider.external_id_key(there.external_id)) == (
        server,
        provider.external_id_key(external_id),
    ):
        if chosen and pipeline is not None and not dry_run:
            _complete(store, there, pipeline, chosen)
        return "there already"
    if dry_run:
        return "would be added"
    tenant = add_to(store, provider, given["key"], server=server, external_id=external_id, credential=credential)
    if chosen and pipeline is not None:
        store.catalog.syncs.configure(tenant, pipeline.name, chosen, actor=OPERATOR)
    return "added"


def _complete(store: Store, tenant: Tenant, pipeline: Pipeline, chosen: Mapping[str, Any]) -> None:
    """Choose what the file says where nothing was chosen yet: an import that ended between the two left the tenant so."""
    sync = store.catalog.syncs.of(tenant, pipeline.name)
    fields = ("is_stopped" if name == "stopped" else name for name in CHOICES)
    if not any(getattr(sync, name) for name in fields):
        store.catalog.syncs.configure(tenant, pipeline.name, chosen, actor=OPERATOR)
