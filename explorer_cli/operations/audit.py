"""`explorer audit`: checks, exports and closes the audit trail."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from explorer.catalog import AuditBroken, Catalog, HeadKey
from explorer.catalog.audit.chain import Fault, read_lines
from explorer.catalog.audit.heads import SignedHead, find_heads
from explorer.catalog.audit.log import change
from explorer.catalog.audit.retention import FOLDER, SealedFile, seal
from explorer.catalog.audit.verification import verify, verify_export
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.postgres.connections import load_connections
from explorer_cli.errors import UsageInvalid
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store

_log = logging.getLogger("explorer_cli")


def verify_trail(logs: Sequence[Path] | None, files: Sequence[Path], *, as_json: bool) -> int:
    """Follow the chain and compare it with signed heads and exported files.

    Raises:
        AuditBroken: names the first broken entry.
    """
    settings = open_settings()
    heads = list(_heads(_logs(settings) if logs is None else logs))
    key = HeadKey.load(settings)
    with open_store(settings) as store:
        found = verify(store.catalog.audit, heads, key)
        with store.catalog.audit.snapshot() as snapshot:
            segments = snapshot.segments("exported")
    if found.fault:
        raise _broken(found.fault, "the audit trail")
    in_files = 0
    for path in files:
        with _opened(path) as lines:
            try:
                count, fault = verify_export(read_lines(lines), segments)
            except ValueError as error:
                raise UsageInvalid(f"{path}: {error}", next_step="Give a file of `explorer audit export`.") from None
        if fault:
            raise _broken(fault, str(path))
        in_files += count
    facts = {
        "whole": True, "entries": found.entries, "sealed_entries": found.sealed, "head": found.head.id,
        "heads_compared": found.heads, "heads_not_comparable": found.unchecked, "entries_in_files": in_files,
    }  # fmt: skip
    if as_json:
        answer_json(facts)
        return 0
    say(("The audit trail is whole", "green"), f": {found.entries} entries up to number {found.head.id}.")
    say(f"{found.heads} signed heads agree with it ({found.unchecked} could not be compared).")
    if found.sealed:
        say(f"{found.sealed} older entries are in exported segments; give their files with --file to follow them.")
    if in_files:
        say(f"{in_files} entries in files are whole.")
    return 0


def export_trail(after: int, output: Path | None) -> int:
    """Write the entries with an id above `after` as lines of JSON, and record that it was done."""
    settings = open_settings()
    with open_store(settings) as store:
        with _written(output) as file, store.catalog.audit.snapshot() as snapshot:
            count = 0
            for entry in snapshot.entries(after):
                file.write(entry.as_line())
                count += 1
        store.catalog.audit.append(change("export_audit", entries=count, after=after))
    if output is not None:
        say(f"{count} entries are in {output}.")
    return 0


def seal_trail(days: int | None, *, as_json: bool) -> int:
    """Move old entries to files."""
    settings = open_settings()
    age = days or settings.audit_retention_days
    if not age:
        raise UsageInvalid(
            "Nothing says how old entries must be.", next_step="Give --days, or set EXPLORER_AUDIT_RETENTION_DAYS."
        )
    with open_store(settings) as store:
        files = _sealed(settings, store.catalog, age)
    if as_json:
        answer_json({"files": [{"path": str(file.path), "entries": file.entries} for file in files]})
        return 0
    for file in files:
        say(f"{file.entries} entries are in {file.path}.")
    if not files:
        say(f"No entry is older than {age} days.")
    return 0


class Sealing:
    """Moves old entries to files, as the setting says: when the platform starts, and every hour while it runs."""

    def __init__(self, settings: Settings, interval_s: float = 3600.0) -> None:
        self._settings, self._interval_s = settings, interval_s
        self._ended = threading.Event()

    def begin(self) -> Mapping[str, Any]:
        """Start a thread for it. A failure there is logged and hinders nothing."""
        threading.Thread(target=self._keep_sealing, name="audit", daemon=True).start()
        return {}

    def end(self) -> None:
        """Begin no further round. One at work may be cut off anywhere: what is in no whole file stays in the database."""
        self._ended.set()

    def _keep_sealing(self) -> None:
        while not self._ended.is_set():
            try:
                with Catalog.open(self._settings) as catalog:
                    _sealed(self._settings, catalog, self._settings.audit_retention_days)
            except (ExplorerError, OSError, SQLAlchemyError, psycopg.Error) as error:
                _log.warning("The audit trail's old entries stay in the database: %s", error)
            self._ended.wait(self._interval_s)


def _sealed(settings: Settings, catalog: Catalog, days: int) -> list[SealedFile]:
    files = seal(catalog.audit, load_connections(settings).catalog, settings.home / FOLDER, days)
    for file in files:
        catalog.audit.append(
            change("seal_audit", first_id=file.first_id, last_id=file.last_id, file=file.path.name, days=days)
        )
    return files


def _logs(settings: Settings) -> list[Path]:
    found = (settings.home / "logs" / name for name in ("bridge.log.1", "bridge.log"))
    return [path for path in found if path.is_file()]


def _heads(logs: Iterable[Path]) -> Iterator[SignedHead]:
    for path in logs:
        with _opened(path) as lines:
            yield from find_heads(line.decode(errors="replace") for line in lines)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageInvalid(f"{path} cannot be read: {error.strerror}.", next_step="Check the path.") from None
    with file:
        yield file


@contextlib.contextmanager
def _written(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageInvalid(
            f"{output} cannot be made: {error.strerror}.", next_step="Give the path of a new file."
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        yield file


def _broken(fault: Fault, where: str) -> AuditBroken:
    return AuditBroken(
        f"Entry {fault.id} of {where} is not as it was written: {fault.reason}.",
        next_step="Somebody changed it past the platform: docs/security.md says who can. Compare with exports and backups.",
        details={"entry": fault.id},
    )
