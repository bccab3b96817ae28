"""How do the records of a dlt resource, written by hand, become pages?"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import islice

import msgspec

from explorer.core.errors import ExplorerError
from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import PageBuffer
from explorer.http.errors import ResponseMalformed
from explorer.providers.paging import Resource

# Decimals stay numbers with all their digits.
_encode = msgspec.json.Encoder(decimal_format="number").encode


def by_resource(pages: PageBuffer, fetcher: Fetcher, paging: Resource, since: datetime | None) -> None:
    """All records, as many a page as the source says, until the resource ends."""
    records = _encoded(fetcher, paging, since)
    while page := list(islice(records, fetcher.source.page_size)):
        pages.fetch(partial(fetcher.page_of, page))


def _encoded(fetcher: Fetcher, paging: Resource, since: datetime | None) -> Iterator[bytes]:
    """Each record as JSON. An error of the client that dlt wraps comes out as it was."""
    try:
        for record in paging.read(fetcher.client, since):
            yield _encode(record)
    except Exception as error:
        known = next((cause for cause in _causes(error) if isinstance(cause, ExplorerError)), None)
        if known:
            raise known from error
        name = fetcher.source.name
        raise ResponseMalformed(
            f"{name}: its resource ended with {type(error).__name__}: {str(error)[:200]}",
            provider=fetcher.client.api.service.name,
            next_step="What was loaded before is untouched. Correct the function in the provider's sources.py.",
            details={"resource": name, "page": fetcher.pages},
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__
