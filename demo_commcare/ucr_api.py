"""The UCR resources: the list of data sources, and the rows of one of them.

HQ's cursor names the last row's `(inserted_at, doc_id)`, and the next page starts strictly after it. When a page ends within
the rows of a document, the rest of these rows is never sent. Every page that is not empty has a `next`.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import Response

from demo_commcare.clock import iso, parse_instant
from demo_commcare.faults import AnswerSwitches, note_rows
from demo_commcare.programme.data_sources import DataSource
from demo_commcare.records import json_bytes
from demo_commcare.tastypie import BadRequest, Page, json_response, paged
from demo_commcare.world import EXPORT_DATA_SOURCE_DATA, USER_CONFIGURABLE_REPORTS, Project

Json = dict[str, Any]
_DEFAULT_LIMIT, _MAX_LIMIT = 1_000, 10_000
_NO_FLAG_TEXT = "You don't have permission to access this API"


def data_sources(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """`GET ucr_data_source/`; 401 with a text where the project space does not have the feature."""
    return _without_feature(project) or paged(request, switches, [source.api() for source in project.data_sources])


def data_source_detail(request: Request, project: Project) -> Response:
    """`GET ucr_data_source/{id}/`, or the empty 404."""
    refusal = _without_feature(project)
    source = _source(project, request.path_params["doc_id"])
    if refusal is not None or source is None:
        return refusal or Response(status_code=404)
    return json_response(json_bytes(source.api_detail()))


def _without_feature(project: Project) -> Response | None:
    if USER_CONFIGURABLE_REPORTS in project.features:
        return None
    return json_response(json_bytes({"error": _NO_FLAG_TEXT}), status=401)


def rows(request: Request, project: Project, switches: AnswerSwitches, root: str) -> Response:
    """`GET ucr/?data_source_id=`; an empty 403 without the export feature, a bare text for a missing id."""
    if EXPORT_DATA_SOURCE_DATA not in project.features:
        return Response(status_code=403)
    params = request.query_params
    source_id = params.get("data_source_id")
    if not source_id:
        return Response("Missing data_source_id parameter", 400, media_type="text/html")
    source = _source(project, source_id)
    if source is None:
        return Response(status_code=404)
    limit = Page.of(params, _DEFAULT_LIMIT, _MAX_LIMIT).limit
    after = _cursor(params)
    page = [row for row in project.ucr_rows(source) if after is None or _key(row) > after][:limit]
    note_rows(request, len(page))
    following = _next_url(request, switches.next_host or root, source_id, limit, page[-1]) if page else None
    answer = {} if switches.drop_collection else {"objects": page}
    return json_response(json_bytes({**answer, "meta": {"next": following, "limit": limit}}))


def _source(project: Project, source_id: str) -> DataSource | None:
    return next((source for source in project.data_sources if source.source_id == source_id), None)


def _key(row: Json) -> tuple[str, str]:
    return row["inserted_at"], row["doc_id"]


def _cursor(params: Mapping[str, str]) -> tuple[str, str] | None:
    if "cursor" not in params:
        return None
    try:
        cursor = parse_qs(base64.b64decode(params["cursor"]).decode())
        return iso(parse_instant(cursor["last_inserted_at"][0])[0]), cursor["last_doc_id"][0]
    except (binascii.Error, ValueError, KeyError) as error:
        raise BadRequest("Invalid cursor") from error


def _next_url(request: Request, root: str, source_id: str, limit: int, last: Json) -> str:
    cursor = urlencode({"last_doc_id": last["doc_id"], "last_inserted_at": last["inserted_at"]})
    asked = {"data_source_id": source_id, "limit": limit, "cursor": base64.b64encode(cursor.encode()).decode()}
    return f"{root}{request.url.path}?{urlencode(asked)}"
