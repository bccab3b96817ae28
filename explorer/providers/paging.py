"""Which ways of paging and of proving that a record is gone are there? A closed list of declarations; a provider picks and names.

`explorer.extract` implements each once, with its own stop rule and loop guard. A provider's `Styles` say what its pipeline files
may name in `paging`, `proof` and `collection`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from explorer.registry import Fault, Pipeline, Source

# Keys to follow inside an answer.
Path = tuple[str, ...]


@dataclass(frozen=True)
class Envelope:
    """Where things are in an answer, beside the records, which are under the source's `collection`. An empty path: nowhere.

    `next`: link or token of the following page; `total`: the server's count; `limit`: its own idea of the page size.
    """

    next: Path = ()
    total: Path = ()
    limit: Path = ()


@dataclass(frozen=True)
class TimeWindows:
    """Ranges of instants, several at a time; records are sorted by the instant in the source's cursor, or in `field`.

    Ends where the server has nothing further in any range, the open one last. Guards: no record goes back in time, no link comes
    twice, pages bring something new. `lower`, `upper`, `size`, `offset`: names of parameters. `lower_is_exclusive`: the lower
    bound itself is not in the answer. `with_zone`: how instants are written. `follows_links`: the answer's `next` leads on within
    a range; else each page starts at the last instant, and records of one instant are paged by offset. `fixed`: always sent.
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
    """By position. Ends at a short page without a next one; read again while fewer were met than counted, since a list that moves
    or is unsorted skips records. Guard: pages bring something new."""

    size: str = "limit"
    offset: str = "offset"


@dataclass(frozen=True)
class WholeDocuments:
    """A page that ends within a document is read again, smaller or larger: the link would skip the document's rest.

    `document`: field of a row that names its document; `part`: field that is filled where documents have several rows.
    """

    document: str
    part: str


@dataclass(frozen=True)
class NextLink:
    """By the answer's link, whose query is taken over to our own address. Ends at an empty page or without a link. Guards: no
    link comes twice, pages bring something new."""

    size: str = "limit"
    documents: WholeDocuments | None = None


@dataclass(frozen=True)
class Token:
    """By an opaque token of the answer, sent as `token`. Ends without one. Guards: no token comes twice, pages bring something
    new."""

    token: str
    size: str = "limit"


@dataclass(frozen=True)
class Keyset:
    """Records whose id is greater than the last one, sent as `after`; sorted by the id in `field`, by default the primary key's.

    Ends at an empty page, or at a short one where the answer says that it is the last (`limit` or `next` in the envelope).
    Guards: every id is new, and numbers grow, so that a server which ignores the parameter is noticed at its second page.
    """

    after: str
    size: str = "limit"
    field: str | None = None


@dataclass(frozen=True)
class Single:
    """One answer holds everything."""


Paging = TimeWindows | Offset | NextLink | Token | Keyset | Single


@dataclass(frozen=True)
class ReadTwice:
    """A record is gone that two whole reads in a row did not bring, both without a sign that rows were left out."""


@dataclass(frozen=True)
class AskEach:
    """A record is gone that the server does not find at `<endpoint><id>/`."""


@dataclass(frozen=True)
class AskInBulk:
    """A record is gone that the server calls so when it is asked for many at a time.

    The list of ids, `most_ids` at most, is posted to `<endpoint><path>` under `ids`; the answer has a list under `records`, of
    records or, for those that are gone, of their id and `not_found` under `error`. `collection`: the only one it is for, called
    `title`.
    """

    path: str
    ids: str
    records: str
    error: str
    not_found: str
    most_ids: int
    collection: str
    title: str


Proof = ReadTwice | AskEach | AskInBulk


@dataclass(frozen=True)
class Styles:
    """What a provider's pipeline files may name: ways of paging and proofs, by their names there, and envelopes by collection."""

    paging: Mapping[str, Paging]
    proofs: Mapping[str, Proof] = field(default_factory=lambda: {"walks": ReadTwice()})
    envelope: Envelope = Envelope()
    envelopes: Mapping[str, Envelope] = field(default_factory=dict)

    def paging_of(self, source: Source) -> Paging:
        """How the source is paged."""
        return self.paging[source.paging]

    def proof_of(self, source: Source) -> Proof:
        """What shows that a record of the source is gone."""
        return self.proofs[source.proof]

    def envelope_of(self, source: Source) -> Envelope:
        """Where things are in an answer of the source."""
        return self.envelopes.get(source.collection, self.envelope)

    def faults(self, pipeline: Pipeline) -> Iterator[Fault]:
        """What a pipeline names that there is not: where in its file, and what is wrong."""
        for number, source in enumerate(pipeline.sources):
            for key, name, known in (("paging", source.paging, self.paging), ("proof", source.proof, self.proofs)):
                if name not in known:
                    yield ("sources", number, key), f"Input should be {_alternatives(known)}"
            if source.paging in self.paging and source.proof in self.proofs:
                yield from ((("sources", number), f"Value error, {why}") for why in self._conflicts(source))

    def _conflicts(self, source: Source) -> Iterator[str]:
        proof = self.proof_of(source)
        if isinstance(proof, AskInBulk) and source.collection != proof.collection:
            yield f"proof {source.proof} is of {proof.title} (collection {proof.collection})"
        if source.key_from == "occurrence" and not delivers_once(self.paging_of(source)):
            yield f"key_from occurrence needs each record once: paging {source.paging} may bring some again"


def delivers_once(paging: Paging) -> bool:
    """Whether pages never bring a record again by design. Ranges overlap, lists are read again, cut documents too."""
    return isinstance(paging, Token | Keyset | Single) or (isinstance(paging, NextLink) and paging.documents is None)


def _alternatives(names: Mapping[str, object]) -> str:
    *first, last = (repr(name) for name in names)
    return f"{', '.join(first)} or {last}" if first else last
