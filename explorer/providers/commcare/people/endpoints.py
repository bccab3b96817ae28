"""Which of a resource's addresses does this version of the server have?"""

from typing import Any

from explorer.http.errors import ResourceUnknown
from explorer.providers.commcare.client import CommCareClient


def first_known(client: CommCareClient, endpoints: tuple[str, ...], resource: str) -> tuple[Any, str]:
    """The answer of the first endpoint that the server has, and that endpoint. Raises: ApiError; ResourceUnknown: it has none."""
    *older, last = endpoints
    for endpoint in older:
        try:
            return client.get_json(endpoint, resource=resource, of_tenant=False), endpoint
        except ResourceUnknown:
            continue
    return client.get_json(last, resource=resource, of_tenant=False), last
