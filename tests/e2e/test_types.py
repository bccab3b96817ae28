"""Typed values over the real path: after each load a query returns the server's values, whatever the earlier type was."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from demo_commcare import NUTRITION, serve_in_thread
from demo_commcare.programme.nutrition_apps import INSCRIPTION, NUTRITION_ID
from explorer_cli.supervision.processes import wait_until
from tests.e2e.stack import Stack

CARDS = "e2e:cards"
PHONES = [f"98410000{number:02d}" for number in range(30)]
LATER = ["refused", "moved away", "2 weeks", "---", "0000", "soon", "never", "unknown"]


class Loads:
    """One tenant over three loads, the last by a new version; each method changes the server before one of them."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.control = stack, stack.demo.control
        self.forms = [f["id"] for f in stack.demo.truth(NUTRITION).forms if f["form"]["@xmlns"] == INSCRIPTION.xmlns]
        self.cases = [self.create(phone=phone, code=str(n)) for n, phone in enumerate(PHONES)]

    def create(self, **properties: str) -> str:
        return self.control.create_case(NUTRITION, "carte", "x", properties)

    def answer(self, form: int, **answers: str) -> None:
        self.control.edit_form(NUTRITION, self.forms[form], answers)

    def first(self) -> None:
        for name, kind in (("card", "DataBindOnly"), ("dose", "Int"), ("amount", "Double"), ("lieu", "Geopoint")):
            self.control.add_question(NUTRITION, NUTRITION_ID, INSCRIPTION.xmlns, name, kind)
        self.create(visit="2026-12-01", born="2026-01-01")
        for day in range(1, 30):
            self.create(born=f"2026-01-{day:02d}" if day > 8 else "---")
        for number in range(len(self.forms)):
            self.answer(number, sexe="12"[number % 2], card="4000", dose=str(number), amount="1.5")
        for number, dose in enumerate(["12.0", "1.2E1", " 7 ", "1.5"]):
            self.answer(number, dose=dose)
        for number, amount in enumerate(["9876543210987655", "1234567890123456789", "0.1000000000000000000001", "1,5"]):
            self.answer(number, amount=amount)
        places = [
            "12.5  -3.25 341.2 8.0",
            " 12.5\t-3.25\t341.2 8.0",
            "12.5 -3.25 341.2 8.0 1",
            "91 0 0 0",
            "0 180.5 0 0",
        ]
        for number, place in enumerate([*places, "12.5 x 0 0"]):
            self.answer(number, lieu=place)

    def second(self) -> None:
        self.control.update_case(NUTRITION, self.cases[0], {"phone": "0712345678"})
        self.answer(0, card="0042")
        for value in LATER:
            self.create(visit=value)

    def third(self) -> None:
        self.create(phone="+9779841000099")

    def sync(self) -> None:
        self.control.settle_index(NUTRITION)
        assert self.stack.sync(CARDS)["status"] == "SUCCESS"


@pytest.fixture(scope="module")
def stack(stack: Stack) -> Iterator[Stack]:
    """The shared platform, with a server and a tenant of its own: what another test's load has seen would count here."""
    with serve_in_thread(cases=240, api_key=stack.demo.api_key) as demo:
        own = replace(stack, demo=demo)
        own.add_tenant(CARDS, NUTRITION)
        own.token = own.new_token("cards", CARDS)
        yield own


@pytest.fixture(scope="module")
def loads(stack: Stack) -> Loads:
    """The tenant after the first load."""
    loads = Loads(stack)
    loads.first()
    loads.sync()
    return loads


def described(stack: Stack, table: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The description of the table. Requested again only when the answer says that Dagster was late, as on a busy machine."""
    answer = {}

    def is_whole() -> bool:
        answer.update(stack.call("describe_table", tenant=CARDS, table=table, limit=200))
        return not any("Dagster" in warning for warning in answer["warnings"])

    wait_until(is_whole, 60)
    data = answer["data"]
    return data, {column["name"]: column for column in data["columns"]}


def enrolment(stack: Stack) -> str:
    tables = stack.call("list_tables", tenant=CARDS, kind="form", limit=50, response_format="detailed")["data"][
        "tables"
    ]
    return str(next(table["name"] for table in tables if table["source"] == INSCRIPTION.xmlns))


def test_declared_numbers_and_places_are_exact_or_named(loads: Loads) -> None:
    stack, form = loads.stack, enrolment(loads.stack)

    def answers(columns: str, count: int) -> list[list[Any]]:
        listed = ", ".join(f"'{key}'" for key in loads.forms[:count])
        rows = stack.rows(CARDS, f"select form_id, {columns}, unfit_columns from {form} where form_id in ({listed})")
        by_id = {row[0]: row[1:] for row in rows}
        return [by_id[key] for key in loads.forms[:count]]

    found = answers("dose, amount::text, amount", 4)
    assert [row[0] for row in found] == [12, 12, 7, None]
    assert [row[1] for row in found] == ["9876543210987655", "1234567890123456789", "0.1000000000000000000001", None]
    # A JSON number where it would be exact, else its text.
    assert [row[2] for row in found] == ["9876543210987655", "1234567890123456789", "0.1000000000000000000001", None]
    assert {"dose", "amount"} <= set(found[3][3])
    assert all("dose" not in (row[3] or ()) and "amount" not in (row[3] or ()) for row in found[:3])
    parts = "lieu_latitude, lieu_longitude, lieu_altitude, lieu_accuracy"
    places = answers(parts, 6)
    assert [row[:4] for row in places] == [[12.5, -3.25, 341.2, 8.0]] * 2 + [[None] * 4] * 4
    assert [[name for name in row[4] or () if name.startswith("lieu")] for row in places] == (
        [[]] * 2 + [["lieu_latitude"]] * 4
    )
    _, columns = described(stack, form)
    assert {columns[name]["type"] for name in ("amount", "lieu_latitude", "lieu_accuracy")} == {"numeric"}
    assert (columns["dose"]["type"], columns["card"]["type"]) == ("bigint", "bigint")


def test_options_that_do_not_fit_the_data_are_said_once(loads: Loads) -> None:
    stack, form = loads.stack, enrolment(loads.stack)
    data, columns = described(stack, form)
    count = len(loads.forms)
    told = f"The options do not fit the data: {count} of {count} answers are none of them, such as '1', '2'."
    assert columns["sexe"]["values"] == told
    assert "unfit" not in columns["sexe"]
    assert set(stack.rows(CARDS, f"select distinct sexe from {form}")[0]) <= {"1", "2"}
    assert stack.rows(CARDS, f"select count(*) from {form} where 'sexe' = any(unfit_columns)") == [[0]]
    assert "accepted_values (1 found)" in data["failing_checks"]
    # The property with the question's name reports this too; it is no separate finding.
    cases, columns = described(stack, "case_enfant")
    assert columns["sexe"]["values"] == told
    assert not [check for check in cases["failing_checks"] if check.startswith("accepted_values")]


def test_a_text_that_is_mostly_dates_says_so_and_can_be_compared(loads: Loads) -> None:
    stack = loads.stack
    _, columns = described(stack, "case_carte")
    assert columns["born"]["type"] == "text"
    told = columns["born"]["values"]
    assert told.startswith("Text, though 22 of 30 values seen are dates: others are not")
    assert "safe_date(born)" in told
    # Personal data are not shown in examples either.
    assert ("'---'" in told) == ("pii" not in columns["born"])
    after = "select count(*) from case_carte where safe_date(born) >= '2026-01-20'"
    assert stack.rows(CARDS, after) == [[10]]
    wrong = stack.call("query", tenant=CARDS, sql="select count(*) from case_carte where born::date > '2026-01-20'")
    assert not wrong["success"]
    assert "safe_date(" in wrong["error"]["next_step"]


def test_inferred_types_become_text_with_the_first_value_that_does_not_come_back(loads: Loads) -> None:
    stack, form = loads.stack, enrolment(loads.stack)
    _, columns = described(stack, "case_carte")
    assert (columns["phone"]["type"], columns["visit"]["type"]) == ("bigint", "date")
    loads.second()
    loads.sync()
    data, columns = described(stack, "case_carte")
    assert {"phone: integer to text", "visit: date to text"} <= set(data["type_changes"])
    assert (columns["phone"]["type"], columns["visit"]["type"]) == ("text", "text")
    # A telephone number is mentioned but not shown.
    assert columns["phone"]["values"].startswith(
        "Text: all 31 values seen are whole numbers, not all of them written so. "
    )
    assert columns["phone"]["pii"]
    assert "0712345678" not in json.dumps(data)
    assert "card: integer to text" in described(stack, form)[0]["type_changes"]
    visits = stack.rows(CARDS, "select visit from case_carte where visit is not null")
    assert sorted(visit for (visit,) in visits) == sorted([*LATER, "2026-12-01"])
    first = stack.rows(CARDS, f"select card from {form} where form_id = '{loads.forms[0]}'")
    assert first == [["0042"]]
    assert phones(stack) == sorted(["0712345678", *PHONES[1:]])


def phones(stack: Stack) -> list[str]:
    rows = stack.rows(CARDS, "select phone from case_carte where phone is not null")
    return sorted(phone for (phone,) in rows)


def test_an_installation_of_before_is_put_right_by_its_next_sync(loads: Loads) -> None:
    """Its profile and tables follow older rules: phone numbers as numbers, double precision, dates with gaps."""
    stack, form = loads.stack, enrolment(loads.stack)
    with stack.admin() as connection:
        names = connection.execute(
            "select replace(table_schema, '_marts', '') from information_schema.tables where table_name = 'case_carte'"
        ).fetchall()
        [[prefix]] = names
        [[text]] = connection.execute(f"select profile from {prefix}_staging.explorer_profile").fetchall()
        profile = json.loads(text)
        del profile["version"]
        carte = profile["tables"]["case_type carte"]["columns"]
        carte["phone"]["kind"], carte["visit"]["kind"] = "integer", "date"
        profile["tables"][f"form {INSCRIPTION.xmlns}"]["columns"]["card"]["kind"] = "integer"
        for table in profile["tables"].values():
            for column in table.get("columns", {}).values():
                column.pop("was", None)
        for seen in [*profile["case_types"].values(), *profile["forms"].values()]:
            for values in (seen.get("properties") or seen.get("answers") or {}).values():
                values.pop("examples", None), values.pop("answers", None)
                values["all"] = {"digits": 30}
        connection.execute(f"update {prefix}_staging.explorer_profile set profile = %s", [json.dumps(profile)])
        names_before = {
            table["name"]: sorted(n for _, n in table.get("names", {}).values()) for table in profile["tables"].values()
        }
        connection.execute(
            f"alter table {prefix}_marts.case_carte alter phone type bigint using null, alter visit type date using null"
        )
        connection.execute(f"alter table {prefix}_marts.{form} alter amount type double precision")
        connection.execute(f"update {prefix}_staging.explorer_tables set definition = 'of before'")
    loads.third()
    loads.sync()
    data, columns = described(stack, "case_carte")
    assert set(data["type_changes"]) == {"phone: integer to text", "visit: date to text"}
    assert (columns["phone"]["type"], columns["visit"]["type"]) == ("text", "text")
    assert phones(stack) == sorted(["0712345678", *PHONES[1:], "+9779841000099"])
    changes = described(stack, form)[0]["type_changes"]
    assert {"card: integer to text", "amount: double precision to numeric"} <= set(changes)
    # Columns and tables keep their names.
    with stack.admin() as connection:
        [[text]] = connection.execute(f"select profile from {prefix}_staging.explorer_profile").fetchall()
    after = json.loads(text)["tables"].values()
    assert names_before == {table["name"]: sorted(n for _, n in table.get("names", {}).values()) for table in after}
