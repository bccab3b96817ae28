"""Which cases and submissions does a change in a raw table concern?"""

from typing import LiteralString

from explorer.tables.plan import ChangedRecords


def _owned(raw_table: str, key: LiteralString, kind: LiteralString, name: LiteralString) -> ChangedRecords:
    """Cases of which the changed owner is no longer what they say. Where several owners have one identifier, a case that names
    another one of them is looked at too."""
    return ChangedRecords(
        "case_id",
        raw_table,
        "select cases.case_id, cases.case_type as kind, cases.case_type as previous_kind"  # noqa: S608 - only literals of this module
        f" from changed join cases on cases.owner_id = changed.{key} where changed._deleted_at is not null"
        f" or (cases.owner_kind, cases.owner_name) is distinct from ('{kind}', {name})",
    )


CHANGED_RECORDS = (
    ChangedRecords(
        "case_id",
        "raw_cases",
        "select changed.case_id, changed.case_type as kind, cases.case_type as previous_kind"
        " from changed left join cases on changed.case_id = cases.case_id",
    ),
    _owned("raw_users", "user_id", "mobile_worker", "changed.username"),
    _owned("raw_web_users", "web_user_id", "web_user", "changed.username"),
    _owned("raw_groups", "group_id", "group", "changed.name"),
    _owned("raw_locations", "location_id", "location", "nullif(changed.record ->> 'name', '')"),
    ChangedRecords(
        "form_id",
        "raw_forms",
        "select changed.form_id, changed.record #>> '{form,@xmlns}' as kind, forms.xmlns as previous_kind"
        " from changed left join forms on changed.form_id = forms.form_id",
    ),
)
