"""Bare's dlt resources, written by hand: what no way of paging reads."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dlt

from explorer.http.client import ApiClient


@dlt.resource(name="meters")
def meters(client: ApiClient, since: datetime | None) -> Iterator[dict[str, Any]]:
    """Every meter with the litres of all its readings, which the API only has one by one."""
    litres: dict[str, float] = {}
    for reading in client.get_json("readings", resource="meters")["readings"]:
        litres[reading["meter"]] = litres.get(reading["meter"], 0) + reading["litres"]
    for meter, total in litres.items():
        yield {"meter": meter, "litres": total}
