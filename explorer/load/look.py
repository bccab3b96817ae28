"""Is there news at a tenant's server? A look of one small request at each of two sources decides, without a load.

It sees new and changed records of sources that can be asked for what came after a time: cases and forms, for instance. What it
does not see (people, places, what is gone) is read by a load that comes at least every `trusted_s`, and by the full read.
"""

from dataclasses import dataclass

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
    """What was found. `why`: in words, for people; `requests`: how many were sent."""

    has_news: bool
    why: str
    requests: int = 0


def seen_by_a_look(pipeline: Pipeline, styles: Styles) -> list[tuple[Source, TimeWindows]]:
    """The sources that a look asks, and how: the first two that can be asked for what came after a time."""
    pagings = [(source, styles.paging_of(source)) for source in pipeline.sources if source.cursor]
    return [(source, paging) for source, paging in pagings if isinstance(paging, TimeWindows)][:MOST_REQUESTS]


def look(target: LoadTarget, client: ApiClient, pipeline: Pipeline, styles: Styles, *, trusted_s: float) -> Look:
    """Ask the tenant's server. That it had nothing new is recorded beside the tenant's raw tables, as the time when these
    sources were last looked at. No run of the tenant may be at work.

    Raises:
        ApiError: the server refuses or fails.
        LoadFailed: the database does.
    """
    seen = seen_by_a_look(pipeline, styles)
    asked = [source.name for source, _ in seen]
    with database_errors():
        connection = target.connect(application_name=APPLICATION_NAME)
    with connection:
        with database_errors():
            now, reached = loads.reached(connection, target.schemas.raw)
        if (why := _needs_a_load(pipeline, asked, reached, trusted_s)) is not None:
            return Look(True, why)
        for sent, (source, paging) in enumerate(seen, 1):
            fetcher = Fetcher(client, source, styles.envelope_of(source))
            if _has_more(fetcher, _after(source, paging, reached[source.name])):
                return Look(True, f"{source.name} has news", sent)
        with database_errors():
            loads.looked(connection, target.schemas.raw, asked, now)
    return Look(False, "nothing new", len(asked))


def _needs_a_load(pipeline: Pipeline, asked: list[str], reached: dict[str, Reached], trusted_s: float) -> str | None:
    """Why no look can tell, if none can."""
    if not asked:
        return "its sources cannot be asked for news"
    if new := [name for name in asked if name not in reached]:
        return f"{new[0]} was never loaded"
    others = set(pipeline.source_names) - set(asked)
    ages = [reached[name].age_s for name in others & reached.keys()]
    # One that may not be read any more gets ever older: the youngest tells when the last load was.
    if others and min(ages, default=trusted_s) >= trusted_s:
        return "what a look does not see was last read too long ago"
    return None


def _has_more(fetcher: Fetcher, params: Params) -> bool:
    """Whether the server has such a record."""
    try:
        return bool(fetcher.fetch(params, asked=1).records)
    except NotAllowed:
        # What may not be read brings no news.
        return False


def _after(source: Source, paging: TimeWindows, reached: Reached) -> Params:
    """The parameters of the first record after the cursor, which lies within its millisecond."""
    base = tuple({**source.params, **source.passes[0].params}.items())
    at = None if reached.cursor is None else to_millisecond(reached.cursor) + 1 + paging.lower_is_exclusive
    return WindowParams(paging, base, None).of(at, None, 1)
