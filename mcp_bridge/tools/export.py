"""The tool that gives a whole result as a file: a link over HTTP, a path over stdio. Its rows never pass through the model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import UUID

import mcp_types as types
from pydantic import Field

from explorer.catalog import Scope
from mcp_bridge.answers.envelope import Answer, fit, iso
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.exports.exporting import Exportable, Exports, provenance_of
from mcp_bridge.exports.files import FolderSink, beside, file_name
from mcp_bridge.exports.formats import KINDS
from mcp_bridge.facts.table_facts import table_warnings
from mcp_bridge.gate.access import bearer
from mcp_bridge.gate.http_authentication import LINKS
from mcp_bridge.gate.tool import Call, TenantArguments, Tool

_COLUMNS_TOKENS = 150
_SOURCES_TOKENS = 150


class ExportQuery(TenantArguments):
    sql: str = Field(min_length=1, max_length=100_000, description="One SELECT, as for query.")
    format: Literal["csv", "csv_exact", "jsonl", "parquet"] = Field(
        "csv",
        description="csv puts ' before texts that a spreadsheet would run as formulas; the others change nothing.",
    )


@dataclass
class Delivery:
    """How files reach the caller. `base`: the bridge's own address, None over stdio; `folder`: for files over stdio; `link_s`:
    how long a link is good, in seconds."""

    folder: Path
    link_s: float
    base: str | None = field(default=None)


def _told(column: Mapping[str, Any]) -> str:
    """A column of the file in few words."""
    mark = " (masked)" if "masked" in column else f" (personal data: {column['pii']})" if "pii" in column else ""
    return f"{column['name']} {column['type']}{mark}"


@dataclass(frozen=True)
class ExportTools:
    exports: Exports
    platform: PlatformDatabase
    delivery: Delivery

    async def export_query(self, call: Call, args: ExportQuery) -> Answer:
        """A link to the result, or a file with it.

        Raises:
            QueryRejected, QueryFailed: as `query`. ValueNotExact, ExportTooLarge, ExportFolderUnusable: of a file.
        """
        call.audit["statement_sha256"] = hashlib.sha256(args.sql.encode("utf-8", "surrogatepass")).hexdigest()
        call.audit["format"] = args.format
        asked = await self.exports.check(call.own, args.sql, call.budget.limits)
        call.audit["tables"] = sorted(asked.statement.tables)
        deliver = self._link if self.delivery.base is not None else self._file
        told, provenance = await deliver(call, args, asked)
        columns = [_told(column) for column in provenance["columns"]]
        shown = fit(columns, _COLUMNS_TOKENS) if columns else []
        left_out = {"columns_left_out": len(columns) - len(shown)} if len(shown) < len(columns) else {}
        sources = provenance["sources"]
        data = {**told, "columns": shown, **left_out, "sources": fit(sources, _SOURCES_TOKENS) if sources else []}
        read = [
            asked.known.as_built(asked.known.tables[name], asked.builds)
            for name in asked.tables
            if name in asked.known.tables
        ]
        answer = Answer(data, asked.known.warnings + table_warnings(read), asked.known.live.schema.marts)
        if "url" in told:
            media_type = KINDS[args.format][1]
            answer.links.append(types.ResourceLink(uri=told["url"], name=told["file_name"], mime_type=media_type))
        return answer

    async def _link(self, call: Call, args: ExportQuery, asked: Exportable) -> tuple[dict[str, Any], dict[str, Any]]:
        """A link, which runs the statement when it is opened. Only what the statement is was checked so far."""
        columns = await self.exports.describe(asked, call.budget.limits, call.caller.identity)
        provenance = provenance_of(asked, args.format, columns)
        name = file_name(asked.own.tenant.key, args.format)
        details = {"tenant": asked.own.tenant.key, "file_name": name, "provenance": provenance}
        token = bearer()
        link, expires_at = await in_thread(
            lambda: self.platform.catalog.exports.make(
                asked.own.tenant.id, UUID(call.caller.identity), token, args.sql, args.format, asked.versions, details,
                self.delivery.link_s,
            ),
            within_s=CATALOG_S,
        )  # fmt: skip
        told = {
            "url": f"{self.delivery.base}{LINKS}{link}",
            "expires_at": iso(expires_at),
            "file_name": name,
            "next_step": "Give the user the url, or GET it without a token; it serves one whole download. A broken-off one is "
            "no file: GET it again. Rows, sha256 and sources: the same url with ?provenance.",
        }
        return told, provenance

    async def _file(self, call: Call, args: ExportQuery, asked: Exportable) -> tuple[dict[str, Any], dict[str, Any]]:
        sink = FolderSink(self.delivery.folder, file_name(asked.own.tenant.key, args.format))
        try:
            written = await self.exports.write(asked, args.format, call.budget, call.caller.identity, sink)
            provenance = {**written.provenance, **written.as_object()}
            sink.finish(provenance)
        finally:
            sink.discard()
        call.audit |= {"rows": written.rows, "bytes": written.bytes}
        return {"path": str(sink.path), "provenance_path": str(beside(sink.path)), **written.as_object()}, provenance

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "export_query",
            "Export a query",
            "Gives the whole result of a SELECT, of any number of rows, as a file for the user or a program: a download link "
            "that is good for some minutes, or a path. Its rows cost no tokens; to read rows yourself use query.",
            ExportQuery,
            export_query,
            Scope.QUERY_RUN,
            idempotent=False,
        ),
    )
