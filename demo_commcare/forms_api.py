"""The form resource.

The filters, date formats and orders of HQ's form list, and attachments. `tastypie` writes the envelope, `index` gives the
documents.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from demo_commcare.clock import instant_of
from demo_commcare.faults import AnswerSwitches
from demo_commcare.index import Query, Range
from demo_commcare.programme.journal import attachment_bytes
from demo_commcare.records import FormRecord, json_bytes
from demo_commcare.tastypie import BadRequest, Page, json_response, list_answer
from demo_commcare.world import Project

Test = Callable[[FormRecord], bool]
_DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%MZ")
_ORDERS = {"received_on": "received_us", "server_modified_on": "server_modified_us", "indexed_on": "indexed_us"}
_RANGES = {**_ORDERS, "server_date_modified": "server_modified_us"}
_UNORDERED = {
    "id",
    "domain",
    "form",
    "type",
    "version",
    "app_id",
    "build_id",
    "archived",
    "edited_on",
    "metadata",
    "uiversion",
}
_CONTROL = {"limit", "offset", "order_by", "format", "username", "api_key", "include_archived", "cases__full"}
_NOT_FOUND_PAGE = "<!DOCTYPE html><html><head><title>404</title></head><body><h1>Not found</h1></body></html>"


def form_date_ms(text: str) -> int:
    """The milliseconds of a date. Only four formats are known; a normal trailing Z or an offset is a 400."""
    for pattern in _DATE_FORMATS:
        try:
            return instant_of(datetime.strptime(text, pattern).replace(tzinfo=UTC)) // 1000
        except ValueError:
            continue
    raise BadRequest(f"Bad query parameter: Unknown date format: {text}")


def form_list(request: Request, project: Project, switches: AnswerSwitches, root: str) -> Response:
    """`GET form/`: newest first unless ordered otherwise."""
    params = dict(request.query_params)
    page = Page.of(params)
    if switches.deep_offset_limit is not None and page.offset + page.limit > switches.deep_offset_limit:
        message = "Sorry, this request could not be processed. Please try again later."
        return json_response(json_bytes({"error_message": message}), status=500)
    order, field = _order(params.get("order_by", "-received_on"))
    selection = project.forms.select(_query(params, project), field)
    chosen = selection.page(page.offset, page.limit, descending=order.startswith("-"))
    texts = _render(project, chosen, root, full_cases=params.get("cases__full") == "true")
    return list_answer(request, switches, page, len(selection), len(chosen), texts, query_only_next=True)


def form_detail(request: Request, project: Project, root: str) -> Response:
    """`GET form/{id}/`, or the empty 404."""
    form = project.forms.get(request.path_params["form_id"])
    if form is None:
        return Response(status_code=404)
    return json_response(json_bytes(form.api(root)))


def form_attachment(request: Request, project: Project) -> Response:
    """The bytes of one attachment, or HQ's HTML 404."""
    form, name = project.forms.get(request.path_params["form_id"]), request.path_params["name"]
    if form is None or name not in form.body["attachments"]:
        return HTMLResponse(_NOT_FOUND_PAGE, 404)
    return Response(attachment_bytes(form.doc_id, name), media_type=form.body["attachments"][name]["content_type"])


def _order(text: str) -> tuple[str, str]:
    name = text.lstrip("-")
    if name in _UNORDERED:
        raise BadRequest(f"The '{name}' field does not allow ordering.")
    if name not in _ORDERS:
        raise BadRequest(f"No matching '{name}' field for ordering on.")
    return text, _ORDERS[name]


def _query(params: dict[str, str], project: Project) -> Query[FormRecord]:
    cheap: list[Test] = []
    if "include_archived" not in params:
        cheap.append(lambda form: not form.archived)
    ranges: dict[str, Range] = {}
    slow: list[Test] = []
    asked = {("include_archived", "")} if "include_archived" in params else set()
    for key, value in params.items():
        base, _, side = key.rpartition("_")
        if side in {"start", "end"} and base in _RANGES:
            low, high = ranges.get(_RANGES[base], (None, None))
            bound = form_date_ms(value)
            ranges[_RANGES[base]] = (bound, high) if side == "start" else (low, bound)
        elif key == "_search":
            ranges |= _search_range(value)
        elif key not in _CONTROL:
            asked.add((key, value))
            (slow if key == "case_id" else cheap).append(_test(key, value, project))
    samples = project.bulk.form_samples if project.bulk else []
    residues = tuple(place for place, sample in enumerate(samples) if all(test(sample) for test in cheap))
    tests = [*cheap, *slow]
    matches = (lambda form: all(test(form) for test in tests)) if tests else None
    return Query(repr(sorted(asked)), matches, ranges, residues, bool(slow))


def _test(key: str, value: str, project: Project) -> Test:
    """A test for forms. Unknown parameters are no error: no form matches them."""
    if key == "xmlns":
        return lambda form: form.xmlns == value
    if key == "app_id":
        return lambda form: (form.app_id or "").lower() == value.lower()
    if key == "case_id":
        touching = project.forms_of_case(value)
        return lambda form: form.doc_id in touching
    return lambda form: False


def _search_range(text: str) -> dict[str, Range]:
    """The only supported shape of `_search`: a range of `inserted_at`."""
    try:
        bounds: dict[str, Any] = json.loads(text)["filter"]["range"]["inserted_at"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest("Bad query parameter: Invalid _search") from error
    low, high = (form_date_ms(str(bounds[side]).rstrip("Z")) if side in bounds else None for side in ("gte", "lte"))
    return {"indexed_us": (low, high)}


def _render(project: Project, chosen: Sequence[FormRecord | int], root: str, full_cases: bool) -> list[bytes]:
    if not full_cases:
        return project.forms.render(chosen, root)
    texts = []
    for record in map(project.forms.record, chosen):
        cases = (project.cases.get(case_id) for case_id in record.case_ids())
        full = [case.api_v1() for case in cases if case is not None]
        texts.append(b"," + json_bytes({**record.api(root), "cases": full}))
    return texts
