"""What does an answer hold around its records? Reads the list of undecoded records and the envelope's facts about the page."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from explorer.extract.pages import Page
from explorer.providers.paging import Envelope, Path

_Getter = Callable[[Any], Any]


class EnvelopeReader:
    """Decodes answers whose records are in the list `collection`. A missing list is an error, not an empty page."""

    def __init__(self, envelope: Envelope, collection: str) -> None:
        fields: dict[str, Any] = {}
        places: dict[str, Path] = {"next": envelope.next, "total": envelope.total, "limit": envelope.limit}
        kinds = {"next": str | None, "total": int | float | None, "limit": int | float | None}
        for name, path in places.items():
            if path:
                _place(fields, path, kinds[name])
        self._decoder = msgspec.json.Decoder(_struct({(collection, True): list[msgspec.Raw], **_optional(fields)}))
        self._records = attrgetter(_attribute(collection))
        self._next, self._total, self._limit = (_getter(path) for path in places.values())

    def read(self, body: bytes) -> Page:
        """The page of an answer. Raises msgspec.DecodeError, or its ValidationError for another shape."""
        answer = self._decoder.decode(body)
        return Page(self._records(answer), self._next(answer), _count(self._total(answer)), _count(self._limit(answer)))


def _place(fields: dict[str, Any], path: Path, kind: Any) -> None:
    *outer, last = path
    for key in outer:
        fields = fields.setdefault(key, {})
    fields[last] = kind


def _optional(fields: dict[str, Any]) -> dict[tuple[str, bool], Any]:
    """Type by (key, whether the key is required)."""
    return {(key, False): _struct(_optional(kind)) | None if isinstance(kind, dict) else kind
            for key, kind in fields.items()}  # fmt: skip


def _struct(fields: dict[tuple[str, bool], Any]) -> Any:
    return msgspec.defstruct(
        "Answer",
        [
            (_attribute(key), kind) if is_required else (_attribute(key), kind, None)
            for (key, is_required), kind in fields.items()
        ],
        rename={_attribute(key): key for key, _ in fields},
        kw_only=True,
    )


def _attribute(key: str) -> str:
    """An attribute name for any JSON key."""
    return "at_" + key.encode().hex()


def _getter(path: Path) -> _Getter:
    names = [_attribute(key) for key in path]

    def get(answer: Any) -> Any:
        for name in names:
            answer = getattr(answer, name) if answer is not None else None
        return answer

    return get if names else lambda _: None


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and value >= 0 else None
