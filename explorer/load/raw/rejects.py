"""Where are rejected records kept until their table is written?"""

from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from explorer.extract.records.reader import Reject
from explorer.load.raw.cells import eight_byte_cell, field_count, text_cell
from explorer.load.raw.rows import CHUNK_BYTES, provenance_start
from explorer.load.raw.table import PROVENANCE_COLUMNS

_RECORD_START_BYTES = 10_000
# A load with more rejects writes them without looking for known ones first.
_MAX_IDS = 10_000


class RejectFile:
    """Rejected records of one source, on disk, for COPY; the first 10,000 bytes of each.

    `rows`: their number; `ids`: their ids, None when there are too many.
    """

    def __init__(self, folder: Path, run_id: str, loaded_at: datetime) -> None:
        self.rows = 0
        self.ids: list[str] | None = []
        self._folder = folder
        self._origin = provenance_start(run_id, loaded_at)
        self._file: IO[bytes] | None = None

    def write(self, resource: str, reject: Reject, page: int) -> None:
        """Add a reject of `resource`, read from `page`. The same record has the same id in every load."""
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115
        digest = blake2b(reject.json, digest_size=16, person=b"reject")
        digest.update(resource.encode())
        identity = digest.hexdigest()
        start = reject.json[:_RECORD_START_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
        cells = [text_cell(cell) for cell in (identity, resource, reject.reason, start)]
        count = field_count(len(cells) + len(PROVENANCE_COLUMNS))
        self._file.write(b"".join((count, *cells, self._origin, eight_byte_cell(8, page), text_cell(identity))))
        self.rows += 1
        if self.ids is not None:
            self.ids.append(identity)
        if self.rows > _MAX_IDS:
            self.ids = None

    def chunks(self) -> Iterator[bytes]:
        """The file's content, from its beginning."""
        if self._file:
            self._file.seek(0)
            while chunk := self._file.read(CHUNK_BYTES):
                yield chunk

    def close(self) -> None:
        """Delete the content."""
        if self._file:
            self._file.close()
