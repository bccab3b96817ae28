"""What is answered at `/export/<link>`: the file, by a link that carries its own right; with `?provenance` what it is.

A link is good while the token with which it was made is: it is verified again, with scope, tenant, budget and statement, as for a
call. A file that breaks off never looks whole: the response ends without its last chunk, which HTTP/1.1 clients notice.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mcp.server.auth.provider import AccessToken
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from explorer.catalog import AdmittedTenant, AuditEntry, ExportLink, Limits, SchemaAbsent
from explorer.catalog import Scope as Right
from explorer.core.errors import ExplorerError, TransientError, UnknownTenant
from mcp_bridge.answers.envelope import iso
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.exports.exporting import DataChanged, Exports, Written
from mcp_bridge.exports.formats import KINDS
from mcp_bridge.gate.access import BridgeToken, Caller, ScopeMissing, TokenUncheckable
from mcp_bridge.gate.audit import for_caller
from mcp_bridge.gate.budgets import Budget, BudgetExhausted, Budgets
from mcp_bridge.gate.http_authentication import LINKS
from mcp_bridge.metrics import BridgeMetrics
from mcp_bridge.sql import QueryFailed, QueryRejected

_PIECE_BYTES = 64 * 1024
# A download can outlive its token by this time.
_TOKEN_CHECKED_EVERY_S = 10.0
_RETRY_AFTER_S = 10
_ACTION = "export"
_log = logging.getLogger(__name__)


class LinkUnknown(ExplorerError):
    """There is no such link."""

    code = "export_link_unknown"


class LinkEnded(ExplorerError):
    """The link was good once."""

    code = "export_link_ended"


class LinkOfAnother(ExplorerError):
    """The request is sent by another principal than the link is for."""

    code = "export_link_of_another"


class ProtocolTooOld(ExplorerError):
    """HTTP/1.0 cannot tell a file that broke off from a whole one."""

    code = "http_too_old"


class _Gone(Exception):
    """Nobody takes the file any more, or nobody may."""


_AGAIN = "Ask for a new one: call export_query again."
# The first that fits.
_STATUS: tuple[tuple[type[ExplorerError], int], ...] = (
    (LinkUnknown, 404),
    (LinkEnded, 410),
    (LinkOfAnother, 403),
    (ProtocolTooOld, 505),
    (ScopeMissing, 403),
    (UnknownTenant, 410),
    (SchemaAbsent, 409),
    (DataChanged, 409),
    (QueryRejected, 409),
    (BudgetExhausted, 429),
    (TokenUncheckable, 503),
    (TransientError, 503),
)


@dataclass
class _Download:
    """A download that is served."""

    link: ExportLink
    caller: Caller
    own: AdmittedTenant
    budget: Budget = field(default_factory=lambda: Budget(Limits()))


class ExportLinks:
    """Serves the links of all bridges of the catalog. `verify`: who sends a token, None for one that is not good."""

    def __init__(
        self,
        platform: PlatformDatabase,
        exports: Exports,
        budgets: Budgets,
        metrics: BridgeMetrics,
        verify: Callable[[str], Awaitable[AccessToken | None]],
    ) -> None:
        self._platform, self._exports, self._budgets, self._metrics = platform, exports, budgets, metrics
        self._verify = verify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app. A response that cannot be completed is left without its end."""
        request = Request(scope, receive)
        if request.method != "GET":
            answer = _refusal(405, "method_not_allowed", "Here one may GET.", "Download the link.", Allow="GET")
            return await answer(scope, receive, send)
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._answer(request, sending)
        except ExplorerError as error:
            if has_begun:
                _log.info("An export broke off: %s [%s]", error.message, error.code)
                return
            shown = for_caller(error, None)
            status = next((status for kind, status in _STATUS if isinstance(shown, kind)), 422)
            status = (
                503 if isinstance(shown, QueryFailed) and shown.code in ("busy", "database_unavailable") else status
            )
            again = {"Retry-After": str(_RETRY_AFTER_S)} if status in (429, 503) else {}
            await _refusal(status, shown.code, shown.message, shown.next_step, **again)(scope, receive, send)
        except _Gone:
            # Without its last chunk the client knows that the file is not whole.
            _log.info("An export was not downloaded to its end")

    async def _answer(self, request: Request, send: Send) -> None:
        given = request.url.path.removeprefix(LINKS)
        link = await in_thread(lambda: self._platform.catalog.exports.find(given), within_s=CATALOG_S)
        if link is None:
            raise LinkUnknown("There is no such export link.", next_step=_AGAIN)
        download = await self._admitted(request, link)
        if "provenance" in request.query_params:
            about = JSONResponse(_about(link), headers=_HEADERS)
            return await about(request.scope, request.receive, send)
        if request.scope.get("http_version") == "1.0":
            raise ProtocolTooOld(
                "Over HTTP/1.0 a file that breaks off looks whole.",
                next_step="Download with HTTP/1.1; a proxy in front must speak it too (nginx: proxy_http_version 1.1).",
            )
        if link.ended is not None:
            raise LinkEnded("This link was used: the whole file was downloaded.", next_step=_AGAIN)
        await self._served(request, download, send)

    async def _admitted(self, request: Request, link: ExportLink) -> _Download:
        """Whoever the link is for, if they still may: as the gate lets in a call."""
        if link.is_expired:
            raise LinkEnded(f"The link ended at {iso(link.expires_at)}.", next_step=_AGAIN)
        caller = await self._caller(link)
        header = request.headers.get("authorization", "")
        if header:
            sender = await self._verify(header.partition(" ")[2].strip())
            if not isinstance(sender, BridgeToken) or sender.caller.identity != caller.identity:
                raise LinkOfAnother(
                    "The token that was sent along is not of the principal that this link is for.",
                    next_step="Open the link without an Authorization header, or ask for a link of your own.",
                )
        calls = await self._platform.calls()
        own = await caller.known_tenant(calls, str(link.details.get("tenant")))
        if own is None or own.tenant.id != link.tenant_id:
            raise LinkEnded("The tenant is no longer open to whoever asked for this.", next_step=_AGAIN)
        caller.require(Right.QUERY_RUN, own.tenant.key)
        return _Download(link, caller, own)

    async def _caller(self, link: ExportLink) -> Caller:
        known = await self._verify(link.bearer)
        if not isinstance(known, BridgeToken) or known.caller.identity != str(link.principal_id):
            raise LinkEnded("The token with which this link was made is no longer good.", next_step=_AGAIN)
        return known.caller

    async def _served(self, request: Request, download: _Download, send: Send) -> None:
        started = time.monotonic()
        download.budget = await self._budgets.admit(download.caller, download.own.tenant)
        written: Written | None = None
        error: ExplorerError | None = None
        outcome = "cancelled"
        try:
            asked = await self._exports.check(download.own, download.link.statement, download.budget.limits)
            if (changed := asked.changed_since(download.link.versions)) is not None:
                raise changed
            links = await in_thread(lambda: self._platform.catalog.exports, within_s=CATALOG_S)
            if not await in_thread(links.start, download.link.id, within_s=CATALOG_S):
                raise LinkEnded("This link was begun too often.", next_step=_AGAIN)
            await self._audit(download, "attempted", None, None, started, counts=False)
            sink = _ResponseSink(request, send, download, lambda: self._still_good(download.link))
            async with sink:
                written = await self._exports.write(
                    asked, download.link.format, download.budget, download.caller.identity, sink
                )
            # What is masked may have changed since the link was made.
            columns = written.provenance["columns"]
            ended = {**written.as_object(), "ended_at": iso(datetime.now(UTC)), "columns": columns}
            await in_thread(links.end, download.link.id, ended, within_s=CATALOG_S)
            outcome = "ok"
        except ExplorerError as refused:
            error, outcome = refused, "error"
            raise
        finally:
            # What was sent counts, however it ended.
            with contextlib.suppress(ExplorerError) if outcome != "ok" else contextlib.nullcontext():
                await asyncio.shield(self._audit(download, outcome, error, written, started, counts=True))
            self._budgets.leave(download.budget)
            code = error.code if error else None
            self._metrics.call_ended(_ACTION, outcome, code, time.monotonic() - started, download.budget.used)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _still_good(self, link: ExportLink) -> bool:
        """Whether whoever asked still may have it. True while that cannot be checked."""
        try:
            caller = await self._caller(link)
        except TokenUncheckable:
            return True
        except LinkEnded:
            return False
        return Right.QUERY_RUN in caller.scopes(str(link.details.get("tenant")))

    async def _audit(
        self,
        download: _Download,
        outcome: str,
        error: ExplorerError | None,
        written: Written | None,
        started: float,
        *,
        counts: bool,
    ) -> None:
        """Add an entry; `counts`: with what was used of the budget. Raises: CatalogUnavailable."""
        link, used = download.link, download.budget.used
        detail = {
            **download.caller.audit,
            "export": str(link.id),
            "format": link.format,
            "statement_sha256": link.details.get("provenance", {}).get("statement_sha256"),
            "tables": sorted(name for name in link.versions if name),
        }
        if counts:
            detail |= {"rows": used.rows, "bytes": used.bytes, "whole": written is not None}
        entry = AuditEntry(
            download.caller.actor, _ACTION, download.own.tenant.key, outcome, error.code if error else None, detail,
            round((time.monotonic() - started) * 1000),
        )  # fmt: skip
        spent = self._budgets.spent(download.budget, None) if counts else None
        await (await self._platform.calls()).append([entry], [spent] if spent else [])


class _ResponseSink:
    """Sends a file as the response, piece by piece, as fast as the client reads. The block ends with `_Gone` when the client has
    left or the token is no longer good."""

    def __init__(
        self, request: Request, send: Send, download: _Download, still_good: Callable[[], Awaitable[bool]]
    ) -> None:
        self._request, self._send, self._download = request, send, download
        self._still_good = still_good
        self._watch: asyncio.Task[None] | None = None
        self._work: asyncio.Task[Any] | None = None
        self._is_over = False

    async def __aenter__(self) -> "_ResponseSink":
        self._work = asyncio.current_task()
        self._watch = asyncio.create_task(self._watching())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        if isinstance(error, asyncio.CancelledError) and self._is_over and self._work is not None:
            self._work.uncancel()
            raise _Gone from None

    async def begin(self) -> None:
        """Begin the response."""
        extension, media_type = KINDS[self._download.link.format]
        name = f"{self._download.link.details.get('file_name') or f'export.{extension}'}"
        headers = {
            **_HEADERS,
            "Content-Type": media_type,
            "Content-Disposition": f'attachment; filename="{name}"',
            "Link": f'<{self._request.url.path}?provenance>; rel="describedby"; type="application/json"',
        }
        raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, part: bytes) -> None:
        """Send the next bytes."""
        view = memoryview(part)
        for at in range(0, len(part), _PIECE_BYTES):
            piece = bytes(view[at : at + _PIECE_BYTES])
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _watching(self) -> None:
        """End the work when the client leaves, or when the token is no longer good."""
        gone = asyncio.create_task(self._until_gone())
        try:
            while not gone.done():
                await asyncio.wait({gone}, timeout=_TOKEN_CHECKED_EVERY_S)
                if gone.done() or not await self._still_good():
                    break
        finally:
            gone.cancel()
        self._is_over = True
        if self._work is not None:
            self._work.cancel()

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


# A link in a page or a history must lead nowhere else, and what is downloaded is not shown.
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store, private",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def _about(link: ExportLink) -> dict[str, Any]:
    """The provenance of a link's file, and whether it was downloaded whole."""
    return {
        **link.details.get("provenance", {}),
        "file_name": link.details.get("file_name"),
        "is_whole": link.ended is not None,
        **(link.ended or {}),
    }


def _refusal(status: int, error: str, description: str, next_step: str, **headers: str) -> Response:
    body = {"error": error, "error_description": f"{description} {next_step}", "next_step": next_step}
    return JSONResponse(body, status, headers={"Connection": "close", **_HEADERS, **headers})
