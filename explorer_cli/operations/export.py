"""`explorer export`: whole tables, or one statement's result, as files in a folder.

The folder's `manifest.json` says of which version of its table each file is, and by which rules for personal data. A file is
made beside the folder's own and then takes its place, and the manifest follows: a command that was killed leaves whole files, and
at worst makes one again.
"""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.catalog import Catalog
from explorer.core.files import read_json_object, sync_folder, write_private
from explorer.core.locks import file_lock
from explorer.core.settings import Settings
from explorer.personal_data import policy_of, semantics_of
from explorer_cli.errors import ExportIncomplete, ToolFailed, UsageInvalid
from explorer_cli.operations.bridge_client import Tools, as_operator
from explorer_cli.output.terminal import answer_json, make_console, tell
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store

_MANIFEST, _INCOMING, _LOCK = "manifest.json", ".incoming", ".export.lock"
_LOCK_S = 5.0
# An operator at the machine has no other limit than the wait for an answer of the bridge.
_TIMEOUT_S = 280.0
_UNLIMITED = 10**15
_PLAIN = re.compile(r"[a-z0-9_]{1,80}")
_EXTENSIONS = {"csv": "csv", "csv_exact": "csv", "jsonl": "jsonl", "parquet": "parquet"}


def run_export(key: str, folder: Path, format_: str, *, sql: str | None, tables: Sequence[str], as_json: bool) -> int:
    """Bring a tenant's tables, or the result of `sql`, into `folder`. Returns 0 when all of it is there.

    Raises:
        UsageInvalid: the folder is of another tenant or format, or cannot be used.
        ExportIncomplete: some tables could not be exported.
    """
    settings = open_settings()
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / _LOCK, _LOCK_S), open_store(settings) as store:
            target = _Target.open(folder, key, format_, _personal_rules(settings, store.catalog, key))
            done = asyncio.run(_exported(settings, target, sql, tables))
    except OSError as error:
        raise UsageInvalid(
            f"The folder {folder} cannot be used: {error.strerror or error}.", next_step="Give another folder."
        ) from None
    if as_json:
        answer_json(done)
    failed = [table for table in done["tables"] if "error" in table]
    if failed:
        named = ", ".join(str(table["table"]) for table in failed[:5])
        raise ExportIncomplete(
            f"{len(failed)} of {len(done['tables'])} tables could not be exported: {named}.",
            next_step="What failed is told above; export such a table with --sql and casts, or in another format.",
        )
    return 0


@dataclass(frozen=True)
class _Target:
    """The folder, and what its manifest says. `rules`: what now decides what is shown of personal data."""

    folder: Path
    key: str
    format: str
    rules: str
    tables: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, folder: Path, key: str, format_: str, rules: str) -> "_Target":
        manifest = read_json_object(folder / _MANIFEST)
        if manifest and (manifest.get("tenant"), manifest.get("format")) != (key, format_):
            raise UsageInvalid(
                f"The folder holds {manifest.get('format')} of {manifest.get('tenant')}.",
                next_step="Give each tenant and format a folder of its own.",
            )
        shutil.rmtree(folder / _INCOMING, ignore_errors=True)
        known = manifest.get("tables")
        return cls(folder, key, format_, rules, dict(known) if isinstance(known, dict) else {})

    @property
    def incoming(self) -> Path:
        return self.folder / _INCOMING

    def file_of(self, table: str) -> str:
        """The file's name, which leads nowhere else whatever the table is called, and is no other table's."""
        plain = table if _PLAIN.fullmatch(table) else ""
        if not plain:
            plain = (
                f"{re.sub(r'[^a-z0-9_]+', '_', table.lower())[:60]}-{hashlib.sha256(table.encode()).hexdigest()[:8]}"
            )
        return f"{plain}.{_EXTENSIONS[self.format]}"

    def has(self, table: str, version: list[Any]) -> bool:
        """Whether the folder has this version of the table, made by the same rules for personal data."""
        entry, path = self.tables.get(table, {}), self.folder / self.file_of(table)
        is_same = (entry.get("version"), entry.get("personal_data")) == (version, self.rules)
        return None not in version and is_same and _size(path) == entry.get("bytes")

    def take(self, table: str, made: dict[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
        """Give what was exported, without the columns `left_out`, its place. Returns the table's entry."""
        name = self.file_of(table)
        beside = Path(made["provenance_path"])
        provenance = read_json_object(beside)
        source: dict[str, Any] = next(
            (each for each in provenance.get("sources", ()) if each.get("table") == table), {}
        )
        entry = {
            "file": name,
            "version": _version(source),
            **{fact: made[fact] for fact in ("rows", "bytes", "sha256")},
            "exported_at": provenance.get("made_at"),
            "personal_data": self.rules,
            **({"columns_left_out": list(left_out)} if left_out else {}),
        }
        Path(made["path"]).replace(self.folder / name)
        beside.replace(self.folder / f"{name}.provenance.json")
        self.tables[table] = entry
        sync_folder(self.folder)
        text = json.dumps({"tenant": self.key, "format": self.format, "tables": self.tables}, indent=1)
        write_private(self.folder / _MANIFEST, text, durable=True)
        return entry


async def _exported(settings: Settings, target: _Target, sql: str | None, tables: Sequence[str]) -> dict[str, Any]:
    own = settings.model_copy(
        update={
            "export_dir": target.incoming,
            "export_timeout_s": max(settings.export_timeout_s, _TIMEOUT_S),
            "export_max_rows": _UNLIMITED,
            "export_max_bytes": _UNLIMITED,
        }
    )
    try:
        async with as_operator(own) as tools:
            if sql is not None:
                return await _statement(tools, target, sql)
            return {"folder": str(target.folder), "tables": await _tables(tools, target, tables)}
    finally:
        shutil.rmtree(target.incoming, ignore_errors=True)


async def _statement(tools: Tools, target: _Target, sql: str) -> dict[str, Any]:
    made = (await tools.call("export_query", {"tenant": target.key, "sql": sql, "format": target.format}))["data"]
    path = target.folder / Path(made["path"]).name
    Path(made["provenance_path"]).replace(path.with_name(f"{path.name}.provenance.json"))
    Path(made["path"]).replace(path)
    tell(make_console(stderr=True), f"{path}: {made['rows']} rows")
    return {"folder": str(target.folder), "file": path.name, "rows": made["rows"], "tables": []}


async def _tables(tools: Tools, target: _Target, wanted: Sequence[str]) -> list[dict[str, Any]]:
    listed = {table["name"]: table for table in await tools.tables(target.key, detailed=True)}
    unknown = [name for name in wanted if name not in listed]
    if unknown:
        raise UsageInvalid(
            f"{target.key} has no table {unknown[0]!r}.", next_step=f"It has {', '.join(sorted(listed)[:20])}."
        )
    names = sorted(set(wanted) or listed)
    console = make_console(stderr=True)
    done: list[dict[str, Any]] = []
    for number, name in enumerate(names, 1):
        said = f"{number}/{len(names)} {name}: "
        if target.has(name, _version(listed[name])):
            done.append({"table": name, "unchanged": True, **target.tables[name]})
            tell(console, f"{said}unchanged")
            continue
        try:
            made, left_out = await _table(tools, target, name)
        except ToolFailed as error:
            done.append({"table": name, "error": error.as_dict()})
            tell(console, f"{said}{error.message} {error.next_step}", style="red")
            continue
        done.append({"table": name, "unchanged": False, **target.take(name, made, left_out)})
        without = f", without {', '.join(left_out)}" if left_out else ""
        tell(console, f"{said}{made['rows']} rows{without}")
    gone = sorted(target.tables.keys() - listed.keys())
    if gone:
        tell(console, f"No longer tables of the tenant, their files stay: {', '.join(gone)}", style="yellow")
    return done


async def _table(tools: Tools, target: _Target, table: str) -> tuple[dict[str, Any], list[str]]:
    """A table's file, and the columns that the tenant's policy for personal data keeps out of it. Raises: ToolFailed."""

    async def exported(columns: str) -> dict[str, Any]:
        statement = f"SELECT {columns} FROM {_quoted(table)}"  # noqa: S608 (the bridge checks it as any)
        asked = {"tenant": target.key, "sql": statement, "format": target.format}
        return dict((await tools.call("export_query", asked))["data"])

    try:
        return await exported("*"), []
    except ToolFailed as error:
        if error.code != "personal_data_refused":
            raise
        columns = await tools.columns(target.key, table)
        shown = [column["name"] for column in columns if not column.get("pii")]
        if not shown:
            raise
        return await exported(", ".join(map(_quoted, shown))), [
            column["name"] for column in columns if column.get("pii")
        ]


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _personal_rules(settings: Settings, catalog: Catalog, key: str) -> str:
    """What decides what a file shows of personal data: the policy, and the rules wherever it hides any."""
    tenant = catalog.tenants.get(key)
    policy = policy_of(settings, catalog, tenant)
    if policy == "mark":
        return policy
    rules = repr(semantics_of(settings, catalog, tenant).personal_data)
    return f"{policy} {hashlib.sha256(rules.encode()).hexdigest()[:16]}"


def _version(table: dict[str, Any]) -> list[Any]:
    """What changes with the table's rows: the run that made them, and when."""
    return [table.get("run_id"), table.get("changed_at")]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
