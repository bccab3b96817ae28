"""For how long is something that was fetched good, before it is fetched again?"""

import re

import httpx

_OTHERWISE_S = 3600.0
_LEAST_S, _MOST_S = 300.0, 86_400.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")


def fresh_s(headers: httpx.Headers) -> float:
    """Seconds by its `Cache-Control`: an hour where nothing is said, never less than five minutes or more than a day."""
    said = headers.get("cache-control", "").lower()
    if "no-store" in said or "no-cache" in said:
        return _LEAST_S
    found = _MAX_AGE.search(said)
    return min(_MOST_S, max(_LEAST_S, float(found[1]))) if found else _OTHERWISE_S
