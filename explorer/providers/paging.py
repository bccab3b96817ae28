"""Which ways of paging, and of proving that a record is gone, exist? A closed list; a provider chooses and names them.

`explorer.extract` implements each once, with its own end condition and loop guard. A provider's `Styles` say which names its
pipeline files may use in `paging`, `proof` and `collection`. What pages in no such way is a dlt resource, written by hand.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from explorer.http.client import ApiClient
from explorer.registry import Fault, Pipeline, Source

# Keys to follow within an answer.
Path = tuple[str, ...]


@dataclass(frozen=True)
class Envelope:
    """Where an answer holds its parts, beside the records (`collection` of the source). An empty path: nowhere.

    `next`: link or token of the next page; `total`: the server's count; `limit`: the page size that the server reports.
    """

    next: Path = ()
    total: Path = ()
    limit: Path = ()


@dataclass(frozen=True)
class TimeWindows:
    """Time ranges, several in parallel; records are sorted by the source's cursor, or by `field`.

    Ends when the server has no further page in any range, the open one last. Guards: time never goes back, no link repeats,
    pages have new records. `lower`, `upper`, `size`, `offset`: names of parameters. `lower_is_exclusive`: the answer excludes
    the lower bound. `with_zone`: how times are written. `follows_links`: the answer's `next` continues within a range; otherwise
    each page starts at the last time, and records of the same time are paged by offset. `fixed`: parameters that are always
    sent.
    """

    field: str
    lower: str
    upper: str
    follows_links: bool
    lower_is_exclusive: bool = False
    with_zone: bool = False
    size: str = "limit"
    offset: str = "offset"
    fixed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Offset:
    """By position. Ends at a short page without a next link; read again while fewer records came than were counted, since a list
    that moves or is unsorted skips records. Guard: pages have new records."""

    size: str = "limit"
    offset: str = "offset"


@dataclass(frozen=True)
class WholeDocuments:
    """A page that ends within a document is requested again, smaller or larger: the link would skip the document's rest.

    `document`: the field that identifies a row's document; `part`: a field that is set where documents have several rows.
    """

    document: str
    part: str


@dataclass(frozen=True)
class NextLink:
    """By the answer's link, whose query is sent to our own address. Ends at an empty page or without a link. Guards: no link
    repeats, pages have new records."""

    size: str = "limit"
    documents: WholeDocuments | None = None


@dataclass(frozen=True)
class Token:
    """By an opaque token of the answer, sent as `token`. Ends without a token. Guards: no token repeats, pages have new
    records."""

    token: str
    size: str = "limit"


@dataclass(frozen=True)
class Keyset:
    """Records with an id greater than the last one, which is sent as `after`; sorted by `field`, by default the primary key's.

    Ends at an empty page, or at a short one that the answer calls the last (`limit` or `next` in the envelope). Guards: every id
    is new, and numbers grow, so that a server that ignores the parameter is noticed at its second page.
    """

    after: str
    size: str = "limit"
    field: str | None = None


@dataclass(frozen=True)
class Single:
    """One answer holds everything."""


@dataclass(frozen=True)
class Resource:
    """A dlt resource, or any function that yields records: of all that changed since the given time, or everything for None.

    It makes its requests by the given client, which keeps to the server's limits and tries again. Ends with the function.
    """

    read: Callable[[ApiClient, datetime | None], Iterable[Any]]


Paging = TimeWindows | Offset | NextLink | Token | Keyset | Single | Resource


@dataclass(frozen=True)
class ReadTwice:
    """A record is gone when two full extracts in a row miss it, both without a sign of skipped rows."""


@dataclass(frozen=True)
class LookUpEach:
    """A record is gone when the server does not find it at `<endpoint><id>/`."""


@dataclass(frozen=True)
class LookUpInBulk:
    """A record is gone when the server says so in a request for many records.

    At most `most_ids` ids are posted to `<endpoint><path>` under `ids`. The answer has a list under `records`: records, or for
    those that are gone their id and `not_found` under `error`. `collection`: the only one that this works for, called `title`.
    """

    path: str
    ids: str
    records: str
    error: str
    not_found: str
    most_ids: int
    collection: str
    title: str


Proof = ReadTwice | LookUpEach | LookUpInBulk


@dataclass(frozen=True)
class Styles:
    """What a provider's pipeline files may name: ways of paging, resources and proofs by name, envelopes by collection."""

    paging: Mapping[str, Paging]
    resources: Mapping[str, Resource] = field(default_factory=dict)
    proofs: Mapping[str, Proof] = field(default_factory=lambda: {"walks": ReadTwice()})
    envelope: Envelope = Envelope()
    envelopes: Mapping[str, Envelope] = field(default_factory=dict)

    def paging_of(self, source: Source) -> Paging:
        """How the source is paged."""
        return self.resources[source.resource] if source.resource else self.paging[source.paging or ""]

    def proof_of(self, source: Source) -> Proof:
        """What proves that a record of the source is gone."""
        return self.proofs[source.proof]

    def envelope_of(self, source: Source) -> Envelope:
        """Where an answer of the source holds its parts."""
        return self.envelopes.get(source.collection, self.envelope)

    def faults(self, pipeline: Pipeline) -> Iterator[Fault]:
        """Unknown names in a pipeline: place in its file, and message."""
        for number, source in enumerate(pipeline.sources):
            named: tuple[tuple[str, str | None, Mapping[str, object]], ...] = (
                ("paging", source.paging, self.paging),
                ("resource", source.resource, self.resources),
                ("proof", source.proof, self.proofs),
            )
            unknown = [(key, known) for key, name, known in named if name and name not in known]
            for key, known in unknown:
                yield ("sources", number, key), f"Input should be {_alternatives(known)}"
            if not unknown:
                yield from ((("sources", number), f"Value error, {why}") for why in self._conflicts(source))

    def _conflicts(self, source: Source) -> Iterator[str]:
        proof = self.proof_of(source)
        if isinstance(proof, LookUpInBulk) and source.collection != proof.collection:
            yield f"proof {source.proof} is of {proof.title} (collection {proof.collection})"
        if source.key_from == "occurrence" and not delivers_once(self.paging_of(source)):
            yield f"key_from occurrence needs each record once: paging {source.paging} may bring some again"


def delivers_once(paging: Paging) -> bool:
    """Whether pages never repeat a record by design. Ranges overlap, lists are read again, and cut documents too."""
    return isinstance(paging, Token | Keyset | Single | Resource) or (
        isinstance(paging, NextLink) and paging.documents is None
    )


def _alternatives(names: Mapping[str, object]) -> str:
    if not names:
        return "left out: the provider has none"
    *first, last = (repr(name) for name in names)
    return f"{', '.join(first)} or {last}" if first else last
