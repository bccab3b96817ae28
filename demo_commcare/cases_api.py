"""Case API v2 and the older case resource.

Strict parameters with HQ's exact texts, base64 cursors with HQ's two page-end rules and its `indexed_on.gte` quirk,
detail, external id, bulk. `index` stores and orders the cases. The API is read-only.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from demo_commcare.case_query import BadQuery, parse_case_query
from demo_commcare.clock import DAY_US, iso, parse_instant
from demo_commcare.faults import AnswerSwitches, note_rows
from demo_commcare.forms_api import form_date_ms
from demo_commcare.index import Query, Range
from demo_commcare.records import CaseRecord, json_bytes
from demo_commcare.tastypie import BadRequest, Page, json_response, list_answer, without_first_comma
from demo_commcare.world import Project

Json = dict[str, Any]
Params = list[tuple[str, str]]
Test = Callable[[CaseRecord], bool]
MAX_LIMIT = 5000
INDEXED_AFTER, LAST_CASE_ID = "indexed_on.gte", "last_case_id"
DATE_FIELDS = {
    "last_modified": "modified_us",
    "server_last_modified": "server_modified_us",
    "date_opened": "opened_us",
    "date_closed": "closed_us",
    "indexed_on": "indexed_us",
}
_EXACT = {"external_id": "external_id", "case_type": "case_type", "owner_id": "owner_id", "case_name": "case_name"}
_PERIODIC = {"case_type", "owner_id", "closed"}
_IGNORED = {"limit", "offset", "order_by", "format", "username", "api_key"}
_FALSE = {"", "false", "f", "0", "no", "n", "off"}


@dataclass(frozen=True)
class Condition:
    """One parameter with its values; `text` names it for caching."""

    name: str
    text: str
    test: Test


@dataclass
class CaseParams:
    """Validated parameters of a list request: paging and conditions (the values of a condition are joined by "or")."""

    limit: int
    conditions: list[Condition]
    ranges: dict[str, Range]
    shape: Callable[[Json], Json] | None


def read_params(params: Params) -> CaseParams:
    """Validate the parameters. Raises BadRequest with HQ's text for anything HQ would not accept."""
    limit = 20
    conditions: list[Condition] = []
    ranges: dict[str, Range] = {}
    for key in dict.fromkeys(key for key, _ in params):
        values = [value for other, value in params if other == key]
        if key == "limit":
            limit = _limit(values[-1])
        elif key in _EXACT or key.startswith(("indices.", "properties.")):
            conditions.append(Condition(key, repr(sorted(values)), _exact(key, set(values))))
        elif key == "closed":
            conditions.append(
                Condition(key, repr(sorted(values)), _closed({value.lower() not in _FALSE for value in values}))
            )
        elif key == "query":
            conditions += [Condition(key, value, _xpath(value)) for value in values]
        elif "." in key and key.split(".", 1)[0] in DATE_FIELDS:
            _add_ranges(ranges, key, values)
        elif key.split(".", 1)[0] not in {"include_deprecated", "fields", "exclude"} or key.startswith(
            "include_deprecated."
        ):
            raise BadRequest(f"'{key}' is not a valid parameter.")
    return CaseParams(limit, conditions, ranges, _shape(params))


def _limit(text: str) -> int:
    try:
        limit = int(text)
    except ValueError:
        limit = -1
    if limit < 0:
        raise BadRequest(f"'{text}' is not a valid value for 'limit'")
    if limit > MAX_LIMIT:
        raise BadRequest(f"You cannot request more than {MAX_LIMIT} cases per request.")
    return limit


def _exact(key: str, values: set[str]) -> Test:
    if key in _EXACT:
        return lambda case: (getattr(case, _EXACT[key]) or "") in values
    kind, name = key.split(".", 1)
    if kind == "indices":
        return lambda case: case.indices.get(name, {}).get("case_id") in values
    return lambda case: case.properties.get(name, "") in values


def _closed(wanted: set[bool]) -> Test:
    return lambda case: case.closed in wanted


def _xpath(text: str) -> Test:
    try:
        return parse_case_query(text)
    except BadQuery as error:
        raise BadRequest(f"Bad query: {error}") from error


def _add_ranges(ranges: dict[str, Range], key: str, values: Sequence[str]) -> None:
    name, qualifier = key.split(".", 1)
    if qualifier not in {"gt", "gte", "lt", "lte"}:
        raise BadRequest(f"'{qualifier}' is not a valid type of date range.")
    for value in values:
        try:
            instant_us, date_only = parse_instant(value)
        except ValueError as error:
            raise BadRequest(f"Cannot parse datetime '{value}'") from error
        low, high = ranges.get(DATE_FIELDS[name], (None, None))
        bound = _bound_ms(instant_us, date_only, qualifier)
        if qualifier.startswith("g"):
            low = bound if low is None else max(low, bound)
        else:
            high = bound if high is None else min(high, bound)
        ranges[DATE_FIELDS[name]] = (low, high)


def _bound_ms(instant_us: int, date_only: bool, qualifier: str) -> int:
    """The inclusive bound: a bare date is a whole day for `gt` and `lte`, its midnight for `gte` and `lt`."""
    whole_day = date_only and qualifier in {"gt", "lte"}
    bound_ms = (instant_us + (DAY_US if whole_day else 0)) // 1000
    if qualifier == "lt" or (whole_day and qualifier == "lte"):
        return bound_ms - 1
    return bound_ms + 1 if qualifier == "gt" and not whole_day else bound_ms


def _shape(params: Params) -> Callable[[Json], Json] | None:
    """The field selection of `fields`/`exclude`, None when all fields are wanted."""
    chosen: dict[str, list[str]] = {"fields": [], "exclude": []}
    for key, value in params:
        kind, _, path = key.partition(".")
        if kind in chosen:
            chosen[kind] += [f"{path}.{name}" if path else name for name in value.split(",") if name]
    if chosen["fields"] and chosen["exclude"]:
        raise BadRequest("You cannot specify both 'fields' and 'exclude'")
    if chosen["fields"]:
        return lambda case: _keep(case, chosen["fields"])
    return (lambda case: _drop(case, chosen["exclude"])) if chosen["exclude"] else None


def _keep(case: Json, paths: list[str]) -> Json:
    kept: Json = {}
    for name, value in case.items():
        below = [path.split(".", 1)[1] for path in paths if path.startswith(f"{name}.")]
        if name in paths:
            kept[name] = value
        elif below and isinstance(value, dict):
            kept[name] = _keep(value, below)
    return kept


def _drop(case: Json, paths: list[str]) -> Json:
    left: Json = {}
    for name, value in case.items():
        below = [path.split(".", 1)[1] for path in paths if path.startswith(f"{name}.")]
        if name not in paths:
            left[name] = _drop(value, below) if below and isinstance(value, dict) else value
    return left


def case_list(request: Request, project: Project, switches: AnswerSwitches, root: str) -> Response:
    """`GET case/v2/`."""
    given = [(k, v) for k, v in request.query_params.multi_items()]
    cursor = next((value for key, value in given if key == "cursor"), None)
    after: tuple[str, str] | None = None
    if cursor is not None:
        given, after = _decode_cursor(cursor)
    params = read_params(given)
    selection = project.cases.select(_query(params, project), "indexed_us")
    offset = 0 if after is None else selection.rank_after((_sort_value(after[0]), after[1]))
    page = selection.page(offset, params.limit)
    total = len(selection)
    answer = {"matching_records": total - offset if switches.old_page_end else total}
    more = total - offset > len(page) if switches.old_page_end else len(page) == params.limit
    parts = [json_bytes(answer)[:-1]]
    note_rows(request, len(page))
    if not switches.drop_collection:
        parts += [b',"cases":[', *without_first_comma(_render(project, page, params.shape)), b"]"]
    if params.limit and (more or switches.endless_paging) and page:
        last = selection.key(page[-1]) if not switches.endless_paging or more else selection.key(page[0])
        sort_value = iso(last[0] * 1000) if switches.old_page_end else str(last[0])
        parts.append(b',"next":' + json_bytes(_next_url(request, switches, root, given, sort_value, last[1])))
    return json_response(*parts, b"}")


def _decode_cursor(cursor: str) -> tuple[Params, tuple[str, str]]:
    """The parameters of the first request and the position of the next page. The first `indexed_on.gte` wins, even if it was the
    caller's own filter: HQ does this too, and so page two repeats page one."""
    try:
        params = parse_qsl(base64.b64decode(cursor).decode(), keep_blank_values=True)
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("Invalid cursor") from error
    dates = [value for key, value in params if key == INDEXED_AFTER]
    ids = [value for key, value in params if key == LAST_CASE_ID]
    if not dates or not ids:
        raise BadRequest("Invalid cursor")
    return [(k, v) for k, v in params if k not in {INDEXED_AFTER, LAST_CASE_ID}], (dates[0], ids[0])


def _sort_value(text: str) -> int:
    if re.fullmatch(r"\d{9,}", text):
        return int(text)
    try:
        return parse_instant(text)[0] // 1000
    except ValueError as error:
        raise BadRequest(f"Cannot parse datetime '{text}'") from error


def _next_url(
    request: Request, switches: AnswerSwitches, root: str, params: Params, sort_value: str, last_id: str
) -> str:
    state = urlencode([*params, (INDEXED_AFTER, sort_value), (LAST_CASE_ID, last_id)])
    cursor = base64.b64encode(state.encode()).decode()
    return f"{switches.next_host or root}{request.url.path}?{urlencode({'cursor': cursor})}"


def _query(params: CaseParams, project: Project) -> Query[CaseRecord]:
    tests = [condition.test for condition in params.conditions]
    matches = (lambda case: all(test(case) for test in tests)) if tests else None
    cheap = [condition.test for condition in params.conditions if condition.name in _PERIODIC]
    slow = any(condition.name not in _PERIODIC for condition in params.conditions)
    name = repr(sorted((condition.name, condition.text) for condition in params.conditions))
    samples = project.bulk.case_samples if project.bulk else []
    residues = tuple(place for place, sample in enumerate(samples) if all(test(sample) for test in cheap))
    return Query(name, matches, params.ranges, residues, slow)


def _render(project: Project, page: Sequence[CaseRecord | int], shape: Callable[[Json], Json] | None) -> list[bytes]:
    if shape is None:
        return project.cases.render(page, "")
    return [b"," + json_bytes(shape(project.cases.record(case).api())) for case in page]


def case_detail(request: Request, project: Project) -> Response:
    """`GET case/v2/{id}` or `{id1},{id2}`: read from the primary store, so without index lag."""
    wanted = request.path_params["case_ids"].strip("/")
    if "," in wanted:
        return json_response(json_bytes(_bulk_answer([("case_id", case_id) for case_id in wanted.split(",")], project)))
    case = project.cases.get(wanted)
    if case is None:
        return json_response(json_bytes({"error": f"Case '{wanted}' not found"}), status=404)
    return json_response(json_bytes(case.api()))


def case_by_external_id(request: Request, project: Project) -> Response:
    """`GET case/v2/ext/{external_id}/`; several cases with that id give a 400."""
    external_id = request.path_params["external_id"]
    found = _with_external_id(project, external_id)
    if not found:
        return json_response(json_bytes({"error": f"Case '{external_id}' not found"}), status=404)
    if len(found) > 1:
        ids = ", ".join(case.doc_id for case in found)
        raise BadRequest(f"Multiple cases found with external_id '{external_id}': {ids}")
    return json_response(json_bytes(found[0].api()))


def bulk_fetch(body: bytes, project: Project) -> Response:
    """`POST case/v2/bulk-fetch/` with `case_ids` and/or `external_ids`, answered in the order of the request."""
    try:
        payload = json.loads(body)
    except ValueError as error:
        raise BadRequest("Payload must be valid JSON") from error
    if not isinstance(payload, dict) or not {"case_ids", "external_ids"} & set(payload):
        raise BadRequest("Payload must include 'case_ids' or 'external_ids' fields")
    wanted = [("case_id", str(value)) for value in payload.get("case_ids", ())]
    wanted += [("external_id", str(value)) for value in payload.get("external_ids", ())]
    if len(wanted) > MAX_LIMIT:
        raise BadRequest(f"You cannot request more than {MAX_LIMIT} cases per request.")
    return json_response(json_bytes(_bulk_answer(wanted, project)))


def _bulk_answer(wanted: Sequence[tuple[str, str]], project: Project) -> Json:
    cases: list[Json] = []
    missing = 0
    for kind, value in wanted:
        found = project.cases.get(value) if kind == "case_id" else next(iter(_with_external_id(project, value)), None)
        missing += found is None
        cases.append({kind: value, "error": "not found"} if found is None else found.api())
    return {"matching_records": len(cases) - missing, "missing_records": missing, "cases": cases}


def _with_external_id(project: Project, external_id: str) -> list[CaseRecord]:
    """Cases of the computed history have no external id, so only stored records are searched."""
    query: Query[CaseRecord] = Query(
        f"external id {external_id}", lambda case: case.external_id == external_id, residues=()
    )
    selection = project.cases.select(query, "indexed_us")
    return [project.cases.record(case) for case in selection.page(0, len(selection))]


_V1_ORDERS = {"indexed_on": "indexed_us", "server_date_modified": "server_modified_us", "date_modified": "modified_us"}
_V1_TERMS = {
    "type": "case_type",
    "case_type": "case_type",
    "owner_id": "owner_id",
    "external_id": "external_id",
    "user_id": "modified_by",
}


def case_list_v1(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """The older case resource: tastypie envelope, silent 0 rows for unknown parameters."""
    params = dict(request.query_params)
    page = Page.of(params, maximum=MAX_LIMIT)
    order = params.get("order_by", "-indexed_on")
    field = _V1_ORDERS.get(order.lstrip("-"))
    if field is None:
        raise BadRequest(f"No matching '{order.lstrip('-')}' field for ordering on.")
    tests: list[Test] = []
    ranges: dict[str, Range] = {}
    for key, value in params.items():
        if key.endswith(("_start", "_end")) and key.rsplit("_", 1)[0] in _V1_ORDERS:
            name = _V1_ORDERS[key.rsplit("_", 1)[0]]
            low, high = ranges.get(name, (None, None))
            bound = form_date_ms(value)
            ranges[name] = (bound, high) if key.endswith("_start") else (low, bound)
        elif key not in _IGNORED:
            tests.append(_v1_test(key, value))
    name = repr(("v1", sorted(params.items())))
    query: Query[CaseRecord] = Query(name, lambda case: all(test(case) for test in tests), ranges, slow=bool(tests))
    selection = project.cases.select(query, field)
    chosen = selection.page(page.offset, page.limit, descending=order.startswith("-"))
    texts = [b"," + json_bytes(project.cases.record(case).api_v1()) for case in chosen]
    return list_answer(request, switches, page, len(selection), len(chosen), texts, query_only_next=True)


def _v1_test(key: str, value: str) -> Test:
    if key == "closed":
        return lambda case: case.closed == (value.lower() not in _FALSE)
    if key in {"name", "case_name"}:
        return lambda case: value.lower() in case.case_name.lower().split()
    if key in _V1_TERMS:
        return lambda case: (getattr(case, _V1_TERMS[key]) or "").lower() == value.lower()
    return lambda case: False
