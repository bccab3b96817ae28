"""Is a record gone that a full extract did not return? Only the server's explicit answer proves it.

Equal counts prove nothing: new records make up for rows that a page skipped, and changed records move between pages. So the
candidates are rows that the table had before and the extract did not return, and each one is requested by id. Where the API
cannot do that, a second full extract must miss them too, and neither extract may show a sign of skipped rows. Rows without proof
are not marked as deleted; the load reports their number and the reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from explorer.extract.asking import Answers, BulkAsker, SingleAsker
from explorer.extract.extract import Extract
from explorer.http.errors import ApiError
from explorer.providers.paging import AskEach, AskInBulk


@dataclass
class Proof:
    """Finds out for one source which records are gone. `extract`: the full extract that has ended; `max_requests`: how many
    requests the proof may send.

    Results: `missing`, rows that the extract did not return; `present`, how many of them the server still has; `open`, how many
    were neither found nor proven to be gone; `why`, the reason for those.
    """

    extract: Extract
    max_requests: int
    missing: int = 0
    present: int = 0
    open: int = 0
    why: str | None = None
    _doubts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        extract = self.extract
        kind = extract.styles.proof_of(extract.source)
        self._asker: BulkAsker | SingleAsker | None = None
        if isinstance(kind, AskInBulk):
            self._asker = BulkAsker(extract.client, extract.source, kind, self.max_requests)
        elif isinstance(kind, AskEach):
            self._asker = SingleAsker(extract.client, extract.source, self.max_requests)

    @property
    def reads_again(self) -> bool:
        """Whether a second extract is the proof, because records cannot be requested by id."""
        return self._asker is None

    @property
    def limit(self) -> int:
        """How many records can be requested."""
        return self._asker.limit if self._asker else 0

    def refuse(self, missing: int, why: str) -> None:
        """Give up on `missing` records without any proof."""
        self.missing, self.open, self.why = missing, missing, why

    def ask(self, missing: Sequence[str], known: str | None) -> list[str]:
        """Those of `missing` (ids, at most `limit`) that the server does not have. Does not raise.

        `known`: a record that the extract returned. The same kind of request must find it; otherwise a negative answer proves
        nothing.
        """
        self.missing = len(missing)
        answers = self._asker.ask(missing, known) if self._asker else Answers()
        self.present = answers.present
        self.open = self.missing - answers.present - len(answers.gone)
        if self.open:
            self.why = answers.failures[0] if answers.failures else "the server's answers do not tell"
        return answers.gone

    def read_again(self) -> Iterator[list[str]]:
        """The ids of a second extract, which exist. The rest is gone if `agrees()`. Does not raise."""
        first = self.extract
        again = Extract(first.client, first.source, first.styles, values=first.values)
        try:
            for batch in again.batches():
                yield [row.id for row in batch.rows]
        except ApiError as error:
            self._doubts.append(f"the second read failed: {error.message}")
            return
        self._doubts += _doubts(first, again)

    def agrees(self, missing: int) -> bool:
        """Whether both extracts together prove that `missing` records are gone."""
        if self._doubts:
            self.refuse(missing, self._doubts[0])
        else:
            self.missing = missing
        return not self._doubts


def _doubts(first: Extract, second: Extract) -> list[str]:
    """Signs that an extract skipped rows, or that the two read different data."""
    both = (first, second)
    found = []
    if not (first.record_count and second.record_count):
        found.append("the server sent no record at all, which may have another reason")
    if any(extract.losses.rejected for extract in both):
        found.append("records came that could not be read")
    if any(extract.short_pages for extract in both):
        found.append("a page held fewer records than it was asked for, with others behind it")
    if any(extract.window_total not in (None, extract.record_count) for extract in both):
        found.append("the server counts other records than it sent")
    if first.places_move:
        if first.repeated or second.repeated or not (first.is_steady and second.is_steady):
            found.append("records moved between the pages")
        if first.fingerprint != second.fingerprint or first.window_total != second.window_total:
            found.append("two reads in a row brought different records")
    return found
