"""What is in `locations` and `location_types`?"""

from msgspec.structs import replace

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import (
    PRESENT,
    as_text,
    blank_to_null,
    json_object,
    table,
    text,
    typed,
    unchanged,
    unfit,
)
from explorer.tables.values import ColumnSpec, Parent, Rows

LEVELS = (
    "JSON object: code of each organizational level from the top down to the location's own, to the name of the location on"
    " it; levels ->> 'district' is the district that it lies in."
)

LOCATION_TYPES = table(
    "location_types",
    "One row per location type: the organizational levels that locations belong to.",
    (
        unchanged("location_type_id", "text", "Identifier of the location type."),
        unchanged("code", "text", "Short code, unique in the project space; `locations.location_type_code`."),
        text("name", "Name of the organizational level, such as district."),
        ColumnSpec(
            "parent_location_type_id",
            "text",
            "Level above; NULL at the top.",
            path=("parent",),
            # The API sends the address of the type.
            text="substring(record ->> 'parent' from '([^/]+)/?$')",
        ),
        typed(
            "is_administrative",
            "boolean",
            "Whether locations of this level stand for an administrative area, without supplies of their own.",
            "administrative",
        ),
        typed("shares_cases", "boolean", "Whether a location of this level owns cases that its workers share."),
        typed("view_descendants", "boolean", "Whether workers at this level see the cases of the locations below."),
        unfit(),
    ),
    Rows("raw_location_types", "location_type_id", PRESENT),
    key=("location_type_id",),
    inputs={"raw_location_types"},
)

_READ = f"""select
    location_id,
    site_code,
    {blank_to_null("parent_location_id")} as parent_location_id,
    {blank_to_null(as_text(("name",)))} as name,
    {blank_to_null(as_text(("location_type_code",)))} as location_type_code,
    record
from raw_locations
where {PRESENT}"""  # noqa: S608 - only literals of this module
# From the top down, so that a circle of parents cannot run for ever: its members have no way from the top.
_TREE = """select
    location_id,
    0 as depth,
    array[]::text[] as ancestor_ids,
    array[]::text[] as ancestor_type_codes,
    array[coalesce(name, location_id)] as names,
    location_type_code,
    jsonb_build_object(coalesce(location_type_code, ''), coalesce(name, location_id)) as levels
from listed
where parent_location_id is null or parent_location_id not in (select location_id from listed)
union all
select
    listed.location_id,
    tree.depth + 1,
    tree.ancestor_ids || tree.location_id,
    tree.ancestor_type_codes || tree.location_type_code,
    tree.names || coalesce(listed.name, listed.location_id),
    listed.location_type_code,
    tree.levels || jsonb_build_object(coalesce(listed.location_type_code, ''), coalesce(listed.name, listed.location_id))
from listed
inner join tree on listed.parent_location_id = tree.location_id"""
_PLACED = """select
    listed.*,
    tree.depth,
    tree.ancestor_ids,
    tree.names[:tree.depth] as ancestor_names,
    tree.ancestor_type_codes,
    array_to_string(tree.names, ' / ') as path,
    tree.levels - '' as levels
from listed
left join tree on listed.location_id = tree.location_id"""


def _key(column: str) -> Origin:
    return Origin("raw_locations", column)


def _field(*path: str) -> Origin:
    return Origin("raw_locations", "record", path)


def _of_record(column: ColumnSpec) -> ColumnSpec:
    """A column of the record, which is not that of a single relation here."""
    return replace(column, origins=(_field(*(column.path or ())),))


_NAME, _CODE = _field("name"), _field("location_type_code")
_ID, _PARENT = _key("location_id"), _key("parent_location_id")

LOCATIONS = table(
    "locations",
    "One row per location that is not archived, with its way from the top of the hierarchy.",
    (
        unchanged("location_id", "text", "Identifier of the location.", _ID),
        unchanged("name", "text", "Name of the location.", _NAME),
        unchanged("site_code", "text", "Short code, unique in the project space.", _key("site_code")),
        unchanged("location_type_code", "text", "Code of the organizational level.", _CODE),
        _of_record(text("location_type_name", "Name of the organizational level, such as district.")),
        unchanged("parent_location_id", "text", "Location above; NULL at the top.", _PARENT),
        unchanged(
            "depth", "integer", "Steps from the top, which is 0; NULL when the parents form a circle.", _ID, _PARENT
        ),
        unchanged("ancestor_ids", "text[]", "Identifiers of all locations above, the top first.", _ID, _PARENT),
        unchanged("ancestor_names", "text[]", "Names of the same.", _NAME, _PARENT),
        unchanged(
            "ancestor_type_codes",
            "text[]",
            "Codes of their organizational levels, in the same order.",
            _CODE,
            _PARENT,
        ),
        unchanged("path", "text", "Names from the top down to the location, separated by ' / '.", _NAME, _PARENT),
        unchanged("levels", "jsonb", LEVELS, _NAME, _CODE, _PARENT),
        _of_record(typed("latitude", "numeric", "Latitude in degrees.")),
        _of_record(typed("longitude", "numeric", "Longitude in degrees.")),
        _of_record(json_object("location_data", "Custom location fields as a JSON object.")),
        _of_record(typed("last_modified", "timestamptz", "When the location was last changed.")),
        _of_record(unfit()),
    ),
    # A location's place depends on those above it: the table is always built as a whole.
    Rows(None, queries=(("listed", _READ), ("tree", _TREE), ("placed", _PLACED)), is_recursive=True),
    key=("location_id",),
    inputs={"raw_locations"},
    parents=(Parent(("parent_location_id",), "locations", "location_id"),),
)
