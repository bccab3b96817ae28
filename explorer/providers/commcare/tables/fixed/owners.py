"""What is in `owners`?"""

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import table, unchanged
from explorer.providers.commcare.tables.fixed.locations import LOCATIONS
from explorer.providers.commcare.tables.fixed.users import GROUPS, USERS, WEB_USERS
from explorer.tables.values import Rows

_LISTED = """select 1 as place, user_id as owner_id, 'mobile_worker' as owner_kind, username as owner_name, is_active,
    primary_location_id as location_id
from users
union all
select 2, web_user_id, 'web_user', username, true, primary_location_id from web_users
union all
select 3, group_id, 'group', name, true, null from groups
union all
select 4, location_id, 'location', name, true, location_id from locations"""
_PLACED = """select chosen.*, locations.path as location_path
from chosen
left join locations on chosen.location_id = locations.location_id"""


OWNERS = table(
    "owners",
    "One row per identifier that can own a case or submit a form: mobile workers, web users, groups and locations. Should"
    " two have one identifier, the first of these kinds stands here.",
    (
        unchanged(
            "owner_id",
            "text",
            "Identifier of the owner; cases.owner_id and forms.user_id refer to it.",
            Origin("users", "user_id"),
            Origin("web_users", "web_user_id"),
            Origin("groups", "group_id"),
            Origin("locations", "location_id"),
        ),
        unchanged("owner_kind", "text", "mobile_worker, web_user, group or location."),
        unchanged(
            "owner_name",
            "text",
            "Login name of a mobile worker or web user, else the name of the group or location.",
            Origin("users", "username"),
            Origin("web_users", "username"),
            Origin("groups", "name"),
            Origin("locations", "name"),
        ),
        unchanged(
            "is_active",
            "boolean",
            "False when it is a mobile worker whose account was deactivated.",
            Origin("users", "is_active"),
        ),
        unchanged(
            "location_id",
            "text",
            "Main location of a mobile worker or web user; the location itself; NULL for groups.",
            Origin("users", "primary_location_id"),
            Origin("web_users", "primary_location_id"),
            Origin("locations", "location_id"),
        ),
        unchanged(
            "location_path",
            "text",
            "Names from the top of the hierarchy down to that location, separated by ' / '; NULL when it is archived or gone.",
            Origin("locations", "path"),
        ),
    ),
    Rows(
        None,
        queries=(
            ("listed", _LISTED),
            ("chosen", "select distinct on (owner_id) *\nfrom listed\norder by owner_id, place"),
            ("placed", _PLACED),
        ),
    ),
    key=("owner_id",),
    inputs=USERS.inputs | WEB_USERS.inputs | GROUPS.inputs | LOCATIONS.inputs,
    reads=("users", "web_users", "groups", "locations"),
)
