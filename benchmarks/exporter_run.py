"""Runs commcare-export once, inside its own environment: the job comes on stdin, the seconds go to the last line of stdout.

Imports nothing of the project. The job's secrets come through stdin and stay in this process.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from commcare_export import cli
from openpyxl import Workbook

CASE_PROPERTIES = (
    "village", "ward", "phone", "water_sources", "has_toilet", "members_total", "house_gps", "household_code",
    "age", "dob", "languages", "literate", "lmp", "edd", "gravida", "parity", "complications", "height_cm", "blood_group",
    "sex", "birth_weight_g",
)  # fmt: skip
CASE_FIELDS = (
    "case_id", "domain", "user_id", "closed", "date_closed", "date_modified", "server_date_modified", "indexed_on",
    "opened_by", "properties.case_name", "properties.case_type", "properties.owner_id", "properties.external_id",
    "properties.date_opened", *(f"properties.{name}" for name in CASE_PROPERTIES),
)  # fmt: skip
FORM_FIELDS = (
    "domain", "app_id", "received_on", "server_modified_on", "indexed_on", "archived", "form.@xmlns", "form.@name",
    "form.meta.userID", "form.meta.username", "form.meta.deviceID", "form.meta.timeStart", "form.meta.timeEnd",
    "form.case.@case_id", "form.case.create.case_name", "form.case.create.case_type", "form.case.create.owner_id",
    *(f"form.case.update.{name}" for name in CASE_PROPERTIES),
)  # fmt: skip


def write_query(path: Path) -> None:
    """Write the Excel file that defines its columns: sheets `cases` and `forms`."""
    book = Workbook()
    for title, source, fields in (("cases", "case", CASE_FIELDS), ("forms", "form", FORM_FIELDS)):
        sheet = book.create_sheet(title)
        sheet.append(["Data Source", "Field", "Source Field"])
        sheet.append([source, "id", "id"])
        for field in fields:
            sheet.append([None, field.replace("@", "").replace(".", "_").lower(), field])
    del book["Sheet"]
    book.save(path)


def main() -> None:
    """Run the export; exits with its status when that is not 0."""
    job: dict[str, Any] = json.load(sys.stdin)
    query = Path(job["folder"]) / "query.xlsx"
    write_query(query)
    arguments = [
        "--query", str(query), "--commcare-hq", job["url"], "--project", job["project"], "--auth-mode", "apikey",
        "--username", job["username"], "--password", job["api_key"], "--until", job["until"],
        "--output-format", "sql", "--output", job["output"], "--no-logfile", "--start-over",
    ]  # fmt: skip
    began = time.perf_counter()
    status: int | str | None = 0
    with contextlib.redirect_stdout(sys.stderr):
        try:
            cli.main(arguments)
        except SystemExit as end:
            status = end.code
    if status:
        sys.exit(status)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
