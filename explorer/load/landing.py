"""One source of a load on its way into its table: what it read, whether anything is to be written, what that did.

A landing that fails leaves its table as it was and takes no other with it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from explorer.contract.bookkeeping.loads import LoadState
from explorer.core.errors import ExplorerError
from explorer.extract.proof import Proof
from explorer.http.errors import NotAllowed
from explorer.load.errors import LoadFailed
from explorer.load.feed import Feed, FeedState
from explorer.load.report import ResourceReport
from explorer.load.warehouse import (
    REJECTED,
    Connection,
    Contents,
    Delivery,
    Difference,
    Ending,
    Landed,
    Owners,
    RawTable,
    Warehouse,
)


@dataclass(frozen=True)
class Place:
    """Where a landing writes, and what was there when the load began."""

    warehouse: Warehouse
    contents: Contents
    table: RawTable
    run_id: str

    @property
    def before(self) -> LoadState | None:
        """What the last load left for this one."""
        return self.contents.bookmarks.get(self.table.source) if self.exists else None

    @property
    def exists(self) -> bool:
        """Whether the table was there."""
        return self.table.name in self.contents.columns


class Landing:
    """`error`: why nothing of it landed. `parent`: the landing whose records this one is walked for. `proof` finds out which
    records are gone; `note_cost` is called once all of that is over."""

    def __init__(
        self,
        place: Place,
        feed: Feed,
        report: ResourceReport,
        parent: "Landing | None",
        proof: Proof,
        owners: Callable[[], Owners | None],
        note_cost: Callable[[], None],
    ) -> None:
        self.feed, self.report = feed, report
        self._proof, self._owners, self._note_cost = proof, owners, note_cost
        self.error: BaseException | None = None
        self._place = place
        self._parent = parent
        self._began = time.monotonic()
        self._difference: Difference | None = None

    @property
    def table(self) -> str:
        """The table's name."""
        return self._place.table.name

    def settle(self, connection: Connection) -> bool:
        """Whether something is to be written, of a feed that is decided. If not, the landing is done."""
        match self.feed.wait():
            case FeedState.FAILED:
                self._fail(self.feed.error)
                return False
            case FeedState.STREAMING:
                return True
        before, ending = self._place.before, self._ending()
        difference = self._compare(connection, ending)
        if difference.ids or difference.gone or self._has_new_rejects(connection):
            self._difference = difference
            return True
        if difference.bookmark != before:
            self._place.warehouse.remember(connection, self._place.table, difference.bookmark, self._place.run_id)
        self._done(Landed(live=difference.bookmark.live_rows))
        return False

    def land(self, slots: threading.Semaphore, connect: Callable[[], Connection]) -> None:
        """Write what is to be written, once the feed is decided. `slots` bounds how many do so at a time. Does not raise."""
        try:
            state = self.feed.wait()
            if state is FeedState.FAILED:
                self._fail(self.feed.error)
                return
            with slots, connect() as connection:
                if state is FeedState.STREAMING or self._difference or self.settle(connection):
                    self._write(connection, connect)
        except BaseException as error:
            self._fail(LoadFailed.because_of(error) if isinstance(error, psycopg.Error) else error)
        finally:
            self.feed.abandon()

    def _write(self, connection: Connection, connect: Callable[[], Connection]) -> None:
        delivery = Delivery(
            self.feed.stream(),
            self._ending,
            self._reads_all,
            self.feed.rejects,
            self._place.run_id,
            self._place.contents.moment,
            connect,
            self._proof,
            self._owners,
        )
        before = self._place.before
        difference = self._difference
        if difference:
            # All rows only where what did not come is to be marked.
            is_all = difference.gone > 0
            rows = self.feed.kept(self.feed.hashes() if is_all else difference.ids)
            before = difference.bookmark
            ending = replace(self._ending(), whole=is_all, repeated=())
            delivery = replace(delivery, chunks=[rows], ending=lambda: ending, may_be_whole=is_all, finder=None)
        self._done(self._place.warehouse.land(connection, self._place.table, delivery, before))

    def _compare(self, connection: Connection, ending: Ending) -> Difference:
        hashes = self.feed.hashes()
        if not self._place.exists:
            return Difference(list(hashes), 0, LoadState(ending.cursor, 0, 0, None))
        return self._place.warehouse.compare(connection, self._place.table, hashes, self._place.before, ending)

    def _has_new_rejects(self, connection: Connection) -> bool:
        rejects = self.feed.rejects
        if not rejects.rows or rejects.ids is None or REJECTED.name not in self._place.contents.columns:
            return rejects.rows > 0
        return not self._place.warehouse.knows_rejects(connection, rejects.ids)

    def _ending(self) -> Ending:
        """What the walk, which is over, says of the whole resource."""
        extract, report = self.feed.extract, self.report
        report.rows_landed, report.pages = extract.record_count, extract.pages
        report.repaired = extract.losses.repaired
        report.rejected, report.rejected_reasons = extract.losses.rejected.total(), dict(extract.losses.rejected)
        report.api_total, report.window_total = extract.api_total, extract.window_total
        report.complete = not report.rejected and (report.api_total is None or extract.record_count >= report.api_total)
        if self._parent:
            report.complete = report.complete and self._parent.report.complete
        return Ending(self._cursor(), self._reads_all, extract.repeated)

    @property
    def _reads_all(self) -> bool:
        return self.feed.extract.since is None and self.feed.extract.until is None

    def _cursor(self) -> datetime | None:
        """The highest instant that landed: of this load alone if it read from the beginning."""
        if self.feed.extract.source.cursor is None:
            return None
        known = [self._place.before.cursor] if self._place.before and self.feed.extract.since else []
        return max((moment for moment in (*known, self.feed.latest) if moment), default=None)

    def _done(self, landed: Landed) -> None:
        report, cursor = self.report, self._cursor()
        report.rows_new, report.rows_changed, report.rows_deleted = landed.new, landed.changed, landed.deleted
        report.rows_total = landed.live
        proof = self._proof
        report.rows_missing, report.rows_unproven, report.missing_reason = (
            proof.present + proof.open,
            proof.open,
            proof.why,
        )
        self._note_cost()
        report.cursor_to = cursor.isoformat() if cursor else None
        report.duration_s = time.monotonic() - self._began

    def _fail(self, error: BaseException | None) -> None:
        self.error = error
        report = self.report
        report.complete = False
        report.duration_s = time.monotonic() - self._began
        if isinstance(error, NotAllowed):
            report.status, report.skipped_reason = "skipped", error.details.get("reason") or error.message
        elif isinstance(error, ExplorerError):
            report.status, report.error = "failed", error.as_dict()
        if self._place.before:
            report.rows_total = self._place.before.live_rows
