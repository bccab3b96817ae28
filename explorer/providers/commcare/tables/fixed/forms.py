"""What is in `forms`?"""

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
from explorer.tables.values import Parent, Rows

FORMS = table(
    "forms",
    "One row per form submission, archived ones included.",
    (
        unchanged("form_id", "text", "Identifier of the submission."),
        text(
            "xmlns",
            "Identifier of the form that was filled in; the same over all versions of the form.",
            "form",
            "@xmlns",
        ),
        text("form_name", "Name of the form at the time of submission.", "form", "@name"),
        computed(
            "app_id",
            "text",
            "Application of the form; NULL for submissions made by the server.",
            blank_to_null("app_id"),
            Origin("raw_forms", "app_id"),
        ),
        text("build_id", "Version of the application that made the submission."),
        typed(
            "time_start",
            "timestamptz",
            "When the user opened the form, by the clock of the device; NULL when that is not readable.",
            "metadata",
            "timeStart",
        ),
        typed(
            "time_end",
            "timestamptz",
            "When the user finished the form, by the clock of the device; NULL when that is not readable.",
            "metadata",
            "timeEnd",
        ),
        unchanged("received_on", "timestamptz", "When the server received the submission."),
        unchanged("server_modified_on", "timestamptz", "When the server last changed the submission."),
        unchanged("indexed_on", "timestamptz", "When the server made the submission searchable; the loader's cursor."),
        text("user_id", "User who submitted the form.", "metadata", "userID"),
        text("username", "Name of that user at the time.", "metadata", "username"),
        computed(
            "archived",
            "boolean",
            "Whether the submission was archived, that is, taken back.",
            "coalesce(archived, false)",
            Origin("raw_forms", "archived"),
        ),
        json_object("form", "Answers as a JSON object, nested as the form's groups are."),
        json_object("metadata", "Facts about the submission: device, start and end time, application version."),
        json_object(
            "attachments",
            "Files of the submission as a JSON object: file name to {content_type, length, url}.",
        ),
        unfit("The values as they came are in metadata."),
    ),
    Rows(
        "raw_forms",
        "form_id",
        PRESENT,
        (unpacked("form_id", "app_id", "received_on", "server_modified_on", "indexed_on", "archived"),),
    ),
    key=("form_id",),
    inputs={"raw_forms"},
    indexes=("xmlns", "received_on", "user_id"),
    # Web users submit forms too.
    parents=(Parent(("user_id",), "owners", "owner_id"),),
)
