"""The small resources: apps, users, web users, groups, locations, lookup tables, user domains, identity.

Each function returns the objects of one resource in HQ's shape; `tastypie` does the paging.
"""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from demo_commcare.clock import parse_instant
from demo_commcare.faults import AnswerSwitches
from demo_commcare.index import Query
from demo_commcare.records import json_bytes
from demo_commcare.sign_in.accounts import Account, Accounts
from demo_commcare.sign_in.oauth import Grant
from demo_commcare.tastypie import BadRequest, comma_texts, envelope, json_response, paged, unpaged_meta
from demo_commcare.world import Project

Json = dict[str, Any]


def applications(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """All applications in one answer, whatever the limit."""
    objects = [_application(request, project, app) for app in project.applications]
    return envelope(switches, unpaged_meta(len(objects)), comma_texts(objects))


def application_detail(request: Request, project: Project) -> Response:
    app = _find(project.applications, request.path_params["doc_id"])
    return _object(None if app is None else _application(request, project, app))


def _application(request: Request, project: Project, app: Json) -> Json:
    extras = project.application_extras[app["id"]] if request.query_params.get("extras") == "true" else {}
    return {**extras, **app}


def users(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """Mobile workers by username: the active ones, or with `archived=true` only the inactive ones."""
    params = request.query_params
    chosen = [user for user in project.people.users if user["is_active"] == (params.get("archived") != "true")]
    group_id = params.get("group")
    if group_id is not None:
        if _find(project.people.groups, group_id) is None:
            raise BadRequest(f"Project {project.name} has no group with id={group_id}")
        chosen = [user for user in chosen if group_id in user["groups"]]
    return paged(
        request, switches, [_user(project, user) for user in sorted(chosen, key=lambda user: user["username"])]
    )


def user_detail(request: Request, project: Project) -> Response:
    return _object_or_400(_find(project.people.users, request.path_params["doc_id"]), lambda user: _user(project, user))


def _user(project: Project, user: Json) -> Json:
    shown = {key: value for key, value in user.items() if key != "is_active"}
    return {**shown, "resource_uri": f"/a/{project.name}/api/user/v1/{user['id']}/"}


def web_users(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    wanted = request.query_params.get("web_username")
    chosen = [user for user in project.people.web_users if wanted is None or user["username"] == wanted]
    return paged(request, switches, [_web_user(project, user) for user in chosen])


def web_user_detail(request: Request, project: Project) -> Response:
    return _object_or_400(
        _find(project.people.web_users, request.path_params["doc_id"]), lambda user: _web_user(project, user)
    )


def _web_user(project: Project, user: Json) -> Json:
    return {**user, "resource_uri": f"/a/{project.name}/api/web-user/v1/{user['id']}/"}


def groups(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    ordered = sorted(project.people.groups, key=lambda group: group["name"])
    return paged(request, switches, [_group(project, group) for group in ordered])


def group_detail(request: Request, project: Project) -> Response:
    group = _find(project.people.groups, request.path_params["doc_id"])
    return _object(None if group is None else _group(project, group))


def _group(project: Project, group: Json) -> Json:
    return {**group, "resource_uri": f"/a/{project.name}/api/group/v1/{group['id']}/"}


def locations_v1(request: Request, project: Project, switches: AnswerSwitches, root: str) -> Response:
    """With absolute addresses for parent and type; Django lookups on two texts and two instants."""
    chosen = project.people.locations
    for key, value in request.query_params.items():
        name, _, lookup = key.partition("__")
        if name in {"site_code", "external_id"} and not lookup:
            chosen = [location for location in chosen if location[name] == value]
        elif name in {"created_at", "last_modified"} and lookup in {"gte", "gt", "lte", "lt"}:
            chosen = [location for location in chosen if _compares(location[name], lookup, value)]
        elif key not in {"limit", "offset", "format", "username", "api_key", "order_by"}:
            raise BadRequest(f"The '{name}' field does not allow filtering.")
    return paged(request, switches, [_location_v1(project, location, root) for location in chosen])


def location_detail_v1(request: Request, project: Project, root: str) -> Response:
    location = _find(project.people.locations, request.path_params["doc_id"], "location_id")
    return _object(None if location is None else _location_v1(project, location, root))


def _location_v1(project: Project, location: Json, root: str) -> Json:
    base = f"{root}/a/{project.name}/api"
    shown = {key: value for key, value in location.items() if key not in {"type_id", "parent_id"}}
    parent = location["parent_id"]
    return {
        **shown,
        "domain": project.name,
        "location_type": f"{base}/location_type/v1/{location['type_id']}/",
        "parent": None if parent is None else f"{base}/location/v1/{parent}/",
        "resource_uri": f"{base}/location/v1/{location['location_id']}/",
    }


def locations_v2(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    chosen = project.people.locations
    for key, value in request.query_params.items():
        name, _, lookup = key.partition(".")
        if name == "last_modified" and lookup in {"gte", "gt", "lte", "lt"}:
            chosen = [location for location in chosen if _compares(location[name], lookup, value)]
    return paged(request, switches, [_location_v2(project, location) for location in chosen])


def location_detail_v2(request: Request, project: Project) -> Response:
    location = _find(project.people.locations, request.path_params["doc_id"], "location_id")
    return _object(None if location is None else _location_v2(project, location))


def _location_v2(project: Project, location: Json) -> Json:
    kind = next(kind for kind in project.people.location_types if kind["id"] == location["type_id"])
    names = ("location_id", "name", "site_code", "last_modified", "latitude", "longitude", "location_data")
    return {
        "domain": project.name,
        **{name: location[name] for name in names},
        "parent_location_id": location["parent_id"] or "",
        "location_type_code": kind["code"],
        "location_type_name": kind["name"],
    }


def location_types(request: Request, project: Project, switches: AnswerSwitches, root: str) -> Response:
    return paged(request, switches, [_location_type(project, kind, root) for kind in project.people.location_types])


def location_type_detail(request: Request, project: Project, root: str) -> Response:
    wanted = request.path_params["doc_id"]
    kind = next((kind for kind in project.people.location_types if str(kind["id"]) == wanted), None)
    return _object(None if kind is None else _location_type(project, kind, root))


def _location_type(project: Project, kind: Json, root: str) -> Json:
    base = f"{root}/a/{project.name}/api/location_type/v1"
    shown = {key: value for key, value in kind.items() if key != "parent_id"}
    parent = None if kind["parent_id"] is None else f"{base}/{kind['parent_id']}/"
    return {**shown, "domain": project.name, "parent": parent, "resource_uri": f"{base}/{kind['id']}/"}


def lookup_tables(request: Request, project: Project, switches: AnswerSwitches, root: str) -> Response:
    return paged(request, switches, [_lookup_table(project, table, root) for table in project.people.lookup_tables])


def lookup_table_detail(request: Request, project: Project, root: str) -> Response:
    table = _find(project.people.lookup_tables, request.path_params["doc_id"])
    return _object(None if table is None else _lookup_table(project, table, root))


def _lookup_table(project: Project, table: Json, root: str) -> Json:
    return {**table, "resource_uri": f"{root}/a/{project.name}/api/lookup_table/v1/{table['id']}/"}


def lookup_table_items(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    return paged(request, switches, project.people.lookup_table_items)


def lookup_table_item_detail(request: Request, project: Project) -> Response:
    return _object(_find(project.people.lookup_table_items, request.path_params["doc_id"]))


def fixtures(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """Lookup-table rows in their flat, older shape, by `fixture_type` or `fixture_type_id`."""
    params = request.query_params
    tags = {table["id"]: table["tag"] for table in project.people.lookup_tables}
    wanted = {
        key
        for key, tag in tags.items()
        if params.get("fixture_type", tag) == tag and params.get("fixture_type_id", key) == key
    }
    rows = [
        {
            "id": item["id"],
            "fixture_type": tags[item["data_type_id"]],
            "fields": {name: values["field_list"][0]["field_value"] for name, values in item["fields"].items()},
        }
        for item in project.people.lookup_table_items
        if item["data_type_id"] in wanted
    ]
    return paged(request, switches, rows)


def domain_cases(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """The case types that have data."""
    selection = project.cases.select(Query("kept", lambda case: True, residues=()), "indexed_us")
    kinds = {case.case_type for case in selection.page(0, len(selection)) if not isinstance(case, int)}
    return paged(request, switches, [{"case_type": kind} for kind in sorted(kinds)], default=100)


def domain_forms(request: Request, project: Project, switches: AnswerSwitches) -> Response:
    """The forms of one application (`application_id`) or of all."""
    wanted = request.query_params.get("application_id")
    rows = [
        {"form_xmlns": form["xmlns"], "form_name": next(iter(form["name"].values()), "")}
        for app in project.applications
        if wanted in (None, app["id"])
        for module in app["modules"]
        for form in module.get("forms", ())
    ]
    return paged(request, switches, rows)


def user_domains(request: Request, accounts: Accounts, caller: Grant, switches: AnswerSwitches) -> Response:
    """The caller's project spaces on a plan that lists them: all at once, or paged as older versions did. Newer versions leave
    out those that the token does not allow."""
    flag = request.query_params.get("feature_flag")
    if flag is not None:
        raise BadRequest(f"'{flag}' is not a valid feature flag")
    mine = [
        project
        for project in accounts.spaces(caller.username)
        if project.subscribed and (caller.allows(project.name) or not switches.user_domains_of_token)
    ]
    rows = [{"domain_name": project.name, "project_name": project.title} for project in mine]
    if switches.user_domains_paged:
        return paged(request, switches, rows)
    return envelope(switches, {"total_count": len(rows)}, comma_texts(rows))


def identity(account: Account) -> Response:
    """One object, not a list."""
    return json_response(json_bytes(account.identity()))


def _compares(text: str, lookup: str, bound: str) -> bool:
    try:
        instant, limit = parse_instant(text)[0], parse_instant(bound)[0]
    except ValueError as error:
        raise BadRequest(f"Cannot parse datetime '{bound}'") from error
    return {"gte": instant >= limit, "gt": instant > limit, "lte": instant <= limit, "lt": instant < limit}[lookup]


def _find(objects: list[Json], doc_id: str, key: str = "id") -> Json | None:
    return next((entry for entry in objects if entry[key] == doc_id), None)


def _object(found: Json | None) -> Response:
    return Response(status_code=404) if found is None else json_response(json_bytes(found))


def _object_or_400(found: Json | None, show: Callable[[Json], Json]) -> Response:
    """The object, or HQ's unusual 400 for a user that does not exist."""
    if found is None:
        raise BadRequest("The object 'None' has an empty attribute 'get_id' and doesn't allow a default or null value.")
    return _object(show(found))
