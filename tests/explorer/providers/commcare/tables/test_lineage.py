"""Columns of tables lead to the fields of the record that they are computed from."""

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.providers.commcare.tables.fixed import fixed_tables
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.lineage import lineage_of_table

FIXED = {table.name: lineage_of_table(table) for table in fixed_tables()}


def test_fields_of_the_record_have_their_path() -> None:
    assert FIXED["cases"]["date_opened"].origins == (Origin("raw_cases", "record", ("date_opened",)),)
    assert FIXED["cases"]["owner_id"].origins == (Origin("raw_cases", "owner_id"),)
    assert FIXED["cases"]["owner_name"].origins == (Origin("owners", "owner_name"),)
    assert FIXED["forms"]["user_id"].origins == (Origin("raw_forms", "record", ("metadata", "userID")),)
    assert FIXED["users"]["primary_location_id"].origins == (
        Origin("raw_users", "record", ("primary_location",)),
        Origin("raw_users", "record", ("user_data", "commcare_location_id")),
    )
    assert FIXED["locations"]["latitude"].origins == (Origin("raw_locations", "record", ("latitude",)),)
    assert FIXED["user_locations"]["location_path"].origins == (Origin("locations", "path"),)


def test_every_column_has_an_origin_unless_it_names_a_kind() -> None:
    without = {(table, name) for table, columns in FIXED.items() for name, of in columns.items() if not of.origins}
    of_structure = {("question_options", name) for name in FIXED["question_options"]}
    assert without - of_structure == {("owners", "owner_kind"), ("user_locations", "user_kind")}


def test_the_address_of_a_file_is_from_the_answer_and_the_attachments() -> None:
    form = Form("x", {}, "Visit", "a", "App", "M", None, (Question(("photo",), "Photo", "Image"),))
    [table] = generate_tables(Structure((), (), (form,)), Profile(), taken=())
    found = lineage_of_table(table)
    assert found["photo"].origins == (Origin("forms", "form", ("photo",)),)
    assert found["photo_url"].origins == (Origin("forms", "attachments"), Origin("forms", "form", ("photo",)))
    assert found["duration_s"].origins == (
        Origin("forms", "metadata", ("timeEnd",)),
        Origin("forms", "metadata", ("timeStart",)),
    )
