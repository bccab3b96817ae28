"""Moves old entries of the audit trail into files; a row of `audit.segments` with their hash stays in their place."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path

from explorer.catalog.audit.chain import GENESIS, ChainedEntry, follow
from explorer.catalog.audit.log import AuditLog
from explorer.catalog.errors import AuditBroken
from explorer.core.files import settle, sync_folder, temporary
from explorer.postgres.connections import Login

FOLDER = "audit"
# A file of about 50 MB.
SEGMENT_ENTRIES = 100_000


@dataclass(frozen=True)
class SealedFile:
    """A segment and the file that has its entries."""

    path: Path
    first_id: int
    last_id: int
    entries: int


def seal(log: AuditLog, owner: Login, folder: Path, days: int, entries: int = SEGMENT_ENTRIES) -> list[SealedFile]:
    """Write the entries older than `days` to files in `folder`, at most `entries` to each, and take them out of the database.
    `owner`: the catalog's own login, which alone may. A file and its name are on disk before anything is taken out. Whoever else
    seals meanwhile waits.

    Raises:
        AuditBroken: the chain of these entries is broken; they stay.
        OSError: a file cannot be written.
        psycopg.Error: the database cannot take them out.
    """
    sealed, until = [], datetime.now(UTC) - timedelta(days=days)
    with owner.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('explorer.audit.seal'))")
        while part := _write(log, folder, until, entries):
            file, last_hash, digest = part
            connection.execute("SELECT audit.seal(%s, %s, %s)", [file.last_id, last_hash, digest])
            sealed.append(file)
    return sealed


def _write(log: AuditLog, folder: Path, until: datetime, most: int) -> tuple[SealedFile, bytes, bytes] | None:
    """The next file with its last hash and SHA-256; None when there are no such entries."""
    with log.snapshot() as snapshot:
        segments = snapshot.segments("exported")
        last_id, start = (segments[-1].last_id, segments[-1].hash) if segments else (0, GENESIS)
        rows = islice(snapshot.entries(last_id, until), most)
        first = next(rows, None)
        if first is None:
            return None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with temporary(folder / f"audit-{first.id:012d}") as (fd, unfinished):
            with os.fdopen(fd, "wb") as file:

                def written() -> Iterator[ChainedEntry]:
                    for entry in chain([first], rows):
                        line = entry.as_line()
                        digest.update(line)
                        file.write(line)
                        yield entry

                followed = follow(written(), start, last_id)
                file.flush()
                settle(file.fileno(), folder)
            if followed.fault:
                raise AuditBroken(
                    f"Entry {followed.fault.id} of the audit trail is not as it was written: {followed.fault.reason}.",
                    next_step="Nothing was taken out. Look at it with `explorer audit verify`.",
                )
            path = folder / f"audit-{first.id:012d}-{followed.last_id:012d}.jsonl"
            unfinished.replace(path)
    # The file's name, and that of its folder when it is new.
    sync_folder(folder)
    sync_folder(folder.parent)
    return SealedFile(path, first.id, followed.last_id, followed.entries), followed.hash, digest.digest()
