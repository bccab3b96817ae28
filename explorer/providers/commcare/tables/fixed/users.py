"""What is in `users`, `web_users`, `groups` and `user_locations`?"""

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import (
    PRESENT,
    array_or_empty,
    as_json,
    as_text,
    blank_to_null,
    computed,
    elements,
    json_object,
    table,
    text,
    texts,
    typed,
    unchanged,
    unfit,
)
from explorer.providers.commcare.tables.fixed.locations import LEVELS, LOCATIONS
from explorer.tables.values import ColumnSpec, Rows

_LISTED = as_json(("locations",))

USERS = table(
    "users",
    "One row per mobile worker, active or deactivated.",
    (
        unchanged("user_id", "text", "Identifier of the mobile worker."),
        unchanged("username", "text", "Login name, with its domain."),
        text("first_name", "First name."),
        text("last_name", "Last name."),
        text("email", "E-mail address."),
        text("default_phone_number", "First telephone number."),
        texts("phone_numbers", "All telephone numbers."),
        unchanged("is_active", "boolean", "False when the account was deactivated."),
        computed(
            "primary_location_id",
            "text",
            "The worker's main location.",
            f"coalesce({blank_to_null(as_text(('primary_location',)))},"
            f" {blank_to_null(as_text(('user_data', 'commcare_location_id')))})",
        ),
        computed(
            "location_ids",
            "text[]",
            "All locations of the worker.",
            f"case when jsonb_array_length({array_or_empty(_LISTED)}) > 0 then {elements(_LISTED)}"
            f" else coalesce(casts.choices({as_text(('user_data', 'commcare_location_ids'))}), '{{}}'::text[]) end",
            Origin("raw_users", "record", ("locations",)),
            Origin("raw_users", "record", ("user_data", "commcare_location_ids")),
        ),
        texts("group_ids", "Groups of the worker.", "groups"),
        json_object("user_data", "Custom user fields as a JSON object."),
    ),
    Rows("raw_users", "user_id", PRESENT),
    key=("user_id",),
    inputs={"raw_users"},
)

WEB_USERS = table(
    "web_users",
    "One row per web user of the project space.",
    (
        unchanged("web_user_id", "text", "Identifier of the web user."),
        unchanged("username", "text", "Login name."),
        text("first_name", "First name."),
        text("last_name", "Last name."),
        text("email", "E-mail address."),
        text("default_phone_number", "First telephone number."),
        text("role", "Name of the user's role."),
        typed("is_admin", "boolean", "Whether the user administers the project space."),
        json_object("permissions", "Rights of the role as a JSON object."),
        text("primary_location_id", "The user's main location."),
        texts("assigned_location_ids", "Locations that the user is restricted or assigned to."),
        json_object("user_data", "Custom user fields as a JSON object."),
        unfit(),
    ),
    Rows("raw_web_users", "web_user_id", PRESENT),
    key=("web_user_id",),
    inputs={"raw_web_users"},
)

GROUPS = table(
    "groups",
    "One row per group of mobile workers.",
    (
        unchanged("group_id", "text", "Identifier of the group."),
        unchanged("name", "text", "Name of the group."),
        typed("case_sharing", "boolean", "Whether members share the group's cases."),
        typed("reporting", "boolean", "Whether the group appears in reports."),
        texts("user_ids", "Active members: identifiers of mobile workers.", "users"),
        json_object("metadata", "Custom group fields as a JSON object."),
        unfit(),
    ),
    Rows("raw_groups", "group_id", PRESENT),
    key=("group_id",),
    inputs={"raw_groups"},
)

_PERSONS = """select user_id, username, 'mobile_worker' as user_kind, is_active, primary_location_id, location_ids from users
union all
select web_user_id, username, 'web_user', true, primary_location_id, assigned_location_ids from web_users"""
_ASSIGNED = """select distinct
    persons.user_id,
    persons.username,
    persons.user_kind,
    persons.is_active,
    assignment.location_id,
    persons.primary_location_id is not distinct from assignment.location_id as is_primary
from persons
cross join lateral unnest(persons.location_ids || persons.primary_location_id) as assignment (location_id)
where assignment.location_id <> ''"""
_PLACED = """select
    assigned.*,
    locations.name as location_name,
    locations.location_type_code,
    locations.location_type_name,
    locations.depth,
    locations.path as location_path,
    locations.ancestor_ids,
    locations.ancestor_names,
    locations.ancestor_type_codes,
    locations.levels
from assigned
left join locations on assigned.location_id = locations.location_id"""


def _of_location(name: str, sql_type: str, about: str, column: str = "") -> ColumnSpec:
    return unchanged(name, sql_type, about, Origin("locations", column or name))


_LOCATION_IDS = (
    Origin("users", "location_ids"),
    Origin("users", "primary_location_id"),
    Origin("web_users", "assigned_location_ids"),
    Origin("web_users", "primary_location_id"),
)

USER_LOCATIONS = table(
    "user_locations",
    "One row per user and location that the user is assigned to, with the location's place in the hierarchy; mobile"
    " workers and web users.",
    (
        unchanged(
            "user_id",
            "text",
            "The mobile worker or web user.",
            Origin("users", "user_id"),
            Origin("web_users", "web_user_id"),
        ),
        unchanged(
            "username", "text", "Login name of the user.", Origin("users", "username"), Origin("web_users", "username")
        ),
        unchanged("user_kind", "text", "mobile_worker or web_user."),
        unchanged(
            "is_active",
            "boolean",
            "False when the mobile worker's account was deactivated.",
            Origin("users", "is_active"),
        ),
        unchanged(
            "location_id",
            "text",
            "The location; its other columns are NULL when it is archived or was deleted.",
            *_LOCATION_IDS,
        ),
        unchanged("is_primary", "boolean", "Whether it is the user's main location.", *_LOCATION_IDS),
        _of_location("location_name", "text", "Name of the location.", "name"),
        _of_location("location_type_code", "text", "Code of its organizational level."),
        _of_location("location_type_name", "text", "Name of its organizational level, such as district."),
        _of_location("depth", "integer", "Steps from the top of the hierarchy, which is 0."),
        _of_location("location_path", "text", "Names from the top down to the location, separated by ' / '.", "path"),
        _of_location("ancestor_ids", "text[]", "Identifiers of all locations above, the top first."),
        _of_location("ancestor_names", "text[]", "Names of the same."),
        _of_location("ancestor_type_codes", "text[]", "Codes of their organizational levels, in the same order."),
        _of_location("levels", "jsonb", LEVELS),
    ),
    Rows(None, queries=(("persons", _PERSONS), ("assigned", _ASSIGNED), ("placed", _PLACED))),
    key=("user_id", "location_id"),
    inputs=USERS.inputs | WEB_USERS.inputs | LOCATIONS.inputs,
    reads=("users", "web_users", "locations"),
    indexes=("location_id",),
)
