"""Is there news at a tenant's server? A look of one small request at each of two sources decides, without a load.

It sees new and changed records of sources that can be asked for what came after a time: cases and forms, for instance. What it
does not see (people, places, what is gone) is read by a load that comes at least every `trusted_s`, and by the full read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from explorer.contract.bookkeeping import loads
from explorer.contract.bookkeeping.loads import Reached
from explorer.extract.fetcher import Fetcher
from explorer.extract.pages import Params
from explorer.extract.paging.windows import WindowParams, to_millisecond
from explorer.http.client import ApiClient
from explorer.http.errors import NotAllowed
from explorer.load.target import LoadTarget, database_errors
from explorer.providers.paging import Styles, TimeWindows
from explorer.registry import Pipeline, Source

MOST_REQUESTS = 2
APPLICATION_NAME = "explorer-look"


@dataclass(frozen=True)
class Look:
    """What was found. `unaffordable`: nothing was asked. `why`: in words, for people; `requests`: how many were sent."""

    answer: Literal["news", "nothing", "unaffordable"]
    why: str
    requests: int = 0


def seen_by_a_look(pipeline: Pipeline, styles: Styles) -> list[tuple[Source, TimeWindows]]:
    """The sources that a look asks, and how: the first two that can be asked for what came after a time."""
    pagings = [(source, styles.paging_of(source)) for source in pipeline.sources if source.cursor]
    return [(source, paging) for source, paging in pagings if isinstance(paging, TimeWindows)][:MOST_REQUESTS]


def look(
    target: LoadTarget,
    client: ApiClient,
    pipeline: Pipeline,
    styles: Styles,
    *,
    trusted_s: float,
    tried_s: float | None,
    may_ask: Callable[[], bool],
) -> Look:
    """Ask the tenant's server. That it had nothing new is recorded beside the tenant's raw tables, as the time when the sources
    that answered were last looked at. No run of the tenant may be at work.

    `tried_s`: seconds since a good run of everything began, None if none is known. What that did not load may not be read, and
    is no reason for another run. `may_ask`: called once, before the first request; whether it may be sent.

    Raises:
        ApiError: the server refuses or fails.
        LoadFailed: the database does.
    """
    with database_errors():
        connection = target.connect(application_name=APPLICATION_NAME)
    with connection:
        with database_errors():
            now, reached = loads.reached(connection, target.schemas.raw)
        seen = [(source, paging) for source, paging in seen_by_a_look(pipeline, styles) if source.name in reached]
        asked = [source.name for source, _ in seen]
        is_tried = tried_s is not None and tried_s < trusted_s
        if (why := _needs_a_load(pipeline, asked, reached, trusted_s, is_tried=is_tried)) is not None:
            return Look("news", why)
        if not may_ask():
            if not is_tried and max(reached[name].age_s for name in asked) >= trusted_s:
                return Look("news", "it may not be looked at, and was last read too long ago")
            return Look("unaffordable", "a tenth of the requests that its server allows in a day was spent on looks")
        answered = []
        for sent, (source, paging) in enumerate(seen, 1):
            fetcher = Fetcher(client, source, styles.envelope_of(source))
            has_more = _has_more(fetcher, _after(source, paging, reached[source.name]))
            if has_more:
                return Look("news", f"{source.name} has news", sent)
            if has_more is not None:
                answered.append(source.name)
        if not answered:
            return Look("news", "nothing may be read that a look asks for", len(seen))
        with database_errors():
            loads.looked(connection, target.schemas.raw, answered, now)
    return Look("nothing", "nothing new", len(seen))


def _needs_a_load(
    pipeline: Pipeline, asked: list[str], reached: dict[str, Reached], trusted_s: float, *, is_tried: bool
) -> str | None:
    """Why no look can tell, if none can."""
    if not is_tried:
        for name in pipeline.source_names:
            if name not in reached:
                return f"{name} was never loaded"
            if name not in asked and reached[name].age_s >= trusted_s:
                return f"{name}, which a look does not see, was last read too long ago"
    return None if asked else "its sources cannot be asked for news"


def _has_more(fetcher: Fetcher, params: Params) -> bool | None:
    """Whether the server has such a record; None when it may not be read."""
    try:
        return bool(fetcher.fetch(params, asked=1).records)
    except NotAllowed:
        return None


def _after(source: Source, paging: TimeWindows, reached: Reached) -> Params:
    """The parameters of the first record after the cursor, which lies within its millisecond."""
    base = tuple({**source.params, **source.passes[0].params}.items())
    at = None if reached.cursor is None else to_millisecond(reached.cursor) + 1 + paging.lower_is_exclusive
    return WindowParams(paging, base, None).of(at, None, 1)
