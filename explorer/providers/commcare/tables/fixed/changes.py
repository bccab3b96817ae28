"""Which cases and submissions does a change in a raw table concern?"""

from explorer.providers.commcare.tables.fixed.locations import LOCATIONS
from explorer.providers.commcare.tables.fixed.owners import OWNERS
from explorer.providers.commcare.tables.fixed.users import GROUPS, USERS, WEB_USERS
from explorer.tables.plan import ChangedRecords
from explorer.tables.select import select_sql


def _of_other_owners() -> str:
    """Cases whose owner will have another kind, name or place, or come, or go. The owners as they will be are computed by the
    very SQL of `owners` and of what it reads: a location that moves takes along all below it, and the workers there."""
    read = ",\n".join(f"{table.name} as (\n{select_sql(table)}\n)" for table in (USERS, WEB_USERS, GROUPS, LOCATIONS))
    return f"""select case_id, case_type as kind, case_type as previous_kind
from cases
where owner_id = any(array(
    with {read},
    becoming as ({select_sql(OWNERS)})
    select owner_id
    from becoming
    full join owners using (owner_id)
    where (becoming.owner_kind, becoming.owner_name, becoming.location_path)
        is distinct from (owners.owner_kind, owners.owner_name, owners.location_path)
))"""  # noqa: S608 - only SQL of this folder


CHANGED_RECORDS = (
    ChangedRecords(
        "case_id",
        "raw_cases",
        "select changed.case_id, changed.case_type as kind, cases.case_type as previous_kind"
        " from changed left join cases on changed.case_id = cases.case_id",
    ),
    *(ChangedRecords("case_id", raw_table, _of_other_owners()) for raw_table in sorted(OWNERS.inputs)),
    ChangedRecords(
        "form_id",
        "raw_forms",
        "select changed.form_id, changed.record #>> '{form,@xmlns}' as kind, forms.xmlns as previous_kind"
        " from changed left join forms on changed.form_id = forms.form_id",
    ),
)
