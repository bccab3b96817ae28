"""What is in `cases`?"""

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import (
    PRESENT,
    blank_to_null,
    computed,
    json_object,
    table,
    text,
    typed,
    unchanged,
    unfit,
    unpacked,
)
from explorer.providers.commcare.tables.fixed.owners import OWNERS
from explorer.tables.values import Rows

_KEYS = ("case_id", "case_type", "owner_id", "closed", "indexed_on", "server_last_modified")
_OWNED = """select unpacked.*, owners.owner_kind, owners.owner_name, owners.location_path as owner_location_path
from unpacked
left join owners on unpacked.owner_id = owners.owner_id"""

CASES = table(
    "cases",
    "One row per case: every case of the project space, open or closed, of all case types.",
    (
        unchanged("case_id", "text", "Identifier of the case."),
        unchanged("case_type", "text", "Type of the case, as the applications name it."),
        text("case_name", "Name of the case; NULL when it has none."),
        text("external_id", "Identifier of the case in another system; NULL when none was given."),
        computed(
            "owner_id",
            "text",
            "Owner of the case: a mobile worker, a case-sharing group or a location.",
            blank_to_null("owner_id"),
            Origin("raw_cases", "owner_id"),
        ),
        typed("date_opened", "timestamptz", "When the case was opened, by the clock of the device."),
        typed("last_modified", "timestamptz", "When the case was last changed, by the clock of the device."),
        unchanged("server_last_modified", "timestamptz", "When the server last changed the case."),
        unchanged(
            "indexed_on",
            "timestamptz",
            "When the server made the case's current state searchable; the loader's cursor.",
        ),
        unchanged("closed", "boolean", "Whether the case is closed."),
        typed("date_closed", "timestamptz", "When the case was closed; NULL while it is open."),
        json_object(
            "properties",
            "All case properties as a JSON object of texts; a property cleared in the application is an empty text.",
        ),
        json_object(
            "indices", "Relations to other cases as a JSON object: identifier to {case_id, case_type, relationship}."
        ),
        unchanged(
            "owner_kind",
            "text",
            "What the owner is: mobile_worker, web_user, group or location; NULL when it is not there.",
            Origin("owners", "owner_kind"),
        ),
        unchanged(
            "owner_name",
            "text",
            "Login name of the worker or web user who owns the case, else the name of the group or location.",
            Origin("owners", "owner_name"),
        ),
        unchanged(
            "owner_location_path",
            "text",
            "Where the owner is: names from the top of the location hierarchy down to the location itself, or to the main"
            " location of a worker or web user, separated by ' / '; NULL for groups.",
            Origin("owners", "location_path"),
        ),
        unfit(),
    ),
    Rows("raw_cases", "case_id", PRESENT, (unpacked(*_KEYS), ("owned", _OWNED))),
    key=("case_id",),
    inputs={"raw_cases", *OWNERS.inputs},
    reads=("owners",),
    indexes=("case_type", "owner_id", "server_last_modified"),
)
