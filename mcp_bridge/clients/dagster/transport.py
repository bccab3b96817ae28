"""One webserver's GraphQL over HTTP: its address, its token, and what a failed request means."""

import logging
from collections.abc import Callable
from typing import Any

import httpx

from explorer.contract.headers import TOKEN_HEADER
from mcp_bridge.clients.dagster.documents import documents
from mcp_bridge.clients.dagster.errors import DagsterUnauthorized, in_time, unavailable

# Less than the five seconds after which the webserver closes an idle connection.
_IDLE_S = 2.0
_CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_log = logging.getLogger(__name__)


class Transport:
    """Sends documents. `locate` and `token` are called again after each connection failure; times are seconds.

    Raises:
        DagsterUnavailable: from every method, when nothing answers or the answer is not Dagster's.
    """

    def __init__(
        self,
        locate: Callable[[], str | None],
        token: Callable[[], str | None],
        *,
        timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._locate, self._token = locate, token
        # The webserver is one of ours: a proxy from the environment must not see the token.
        self._http = httpx.AsyncClient(
            timeout=timeout_s, trust_env=False, follow_redirects=False, limits=httpx.Limits(keepalive_expiry=_IDLE_S)
        )
        self._read_timeout_s = read_timeout_s
        self._url: str | None = None

    async def aclose(self) -> None:
        await self._http.aclose()

    @property
    def url(self) -> str | None:
        """The base URL in use, without a trailing slash; None when Dagster was never started."""
        self._url = self._url or (self._locate() or "").rstrip("/") or None
        return self._url

    async def query(self, document: str, **variables: Any) -> dict[str, Any]:
        """Run the query document of this name and return its data. It is sent again if the connection was closed meanwhile."""
        return await in_time(self._post(documents()[document], variables, repeatable=True), self._read_timeout_s)

    async def mutate(self, document: str, **variables: Any) -> dict[str, Any]:
        """Run the mutation document of this name and return its data."""
        return await self._post(documents()[document], variables, repeatable=False)

    async def _post(self, document: str, variables: dict[str, Any], *, repeatable: bool) -> dict[str, Any]:
        url, token = self.url, self._token()
        headers = {TOKEN_HEADER: token} if token else {}
        if url is None:
            raise unavailable("it was not started")
        try:
            response = await self._http.post(
                f"{url}/graphql", json={"query": document, "variables": variables}, headers=headers
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._url = None
            moved = isinstance(error, httpx.ConnectError) and self.url != url
            if moved or (repeatable and isinstance(error, _CLOSED)):
                return await self._post(document, variables, repeatable=False)
            _log.info("Dagster at %s does not answer: %s %s", url, type(error).__name__, error)
            raise unavailable("it does not answer") from None
        return self._read(response)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        if response.status_code in (401, 403):
            raise DagsterUnauthorized(
                "Dagster refused the call: the token is not the one its webserver was started with.",
                next_step="Set EXPLORER_DAGSTER_TOKEN, or start the webserver with `explorer up`.",
            )
        try:
            body = response.json()
        except ValueError:
            self._url = None
            _log.info("What is at %s answers %s without JSON", response.url, response.status_code)
            raise unavailable("something else answers at its address") from None
        if not isinstance(body, dict) or body.get("data") is None or body.get("errors"):
            errors = body.get("errors") if isinstance(body, dict) else None
            why = errors[0].get("message", "") if errors else f"status {response.status_code}"
            _log.info("Dagster answered with an error: %s", why)
            raise unavailable("it failed while answering")
        data = body["data"]
        return dict(data)
