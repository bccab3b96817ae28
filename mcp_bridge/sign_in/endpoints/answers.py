"""How does the authorization server answer programs? JSON with OAuth's error codes, for any origin, never stored."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from explorer.core.errors import ExplorerError
from mcp_bridge.sign_in.endpoints.parameters import ParametersInvalid

# Programs in a browser, such as the MCP inspector, ask from their own origin. There are no cookies here that they could misuse.
CORS = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, MCP-Protocol-Version",
    "Access-Control-Max-Age": "600",
}
_UNSTORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_RETRY_AFTER_S = 5
_log = logging.getLogger(__name__)


class OAuthError(Exception):
    """An answer with an error. `code`: of the standard; `retry_after_s`: when to come again."""

    def __init__(self, code: str, description: str, status: int = 400, retry_after_s: float | None = None) -> None:
        super().__init__(description)
        self.code, self.description, self.status, self.retry_after_s = code, description, status, retry_after_s


def told(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that nobody may keep."""
    return JSONResponse(content, status, headers={**_UNSTORED, **CORS, **(headers or {})})


def for_programs(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint with its errors as JSON, and an answer to preflight requests of browsers."""

    async def answered(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_PREFLIGHT)
        try:
            return await endpoint(request)
        except OAuthError as error:
            return _refused(error)
        except ParametersInvalid as error:
            return _refused(OAuthError("invalid_request", str(error)))
        except ExplorerError as error:
            # Not for strangers: it may name addresses, folders and settings.
            _log.warning("A program of a person cannot be answered: %s [%s]", error.message, error.code)
            return _refused(OAuthError("temporarily_unavailable", "Try again in a moment.", 503, _RETRY_AFTER_S))

    return answered


def _refused(error: OAuthError) -> Response:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(max(1, round(error.retry_after_s)))}
    return told({"error": error.code, "error_description": error.description}, error.status, headers)
