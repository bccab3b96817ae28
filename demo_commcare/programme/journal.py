"""Turns submissions of phones into form documents.

`Journal` gives invented submissions their order, identifiers, metadata, case blocks and attachments; the stories say what
happened. All randomness comes from one seeded generator.
"""

import random
from typing import Any

from demo_commcare.clock import iso
from demo_commcare.programme.app_model import App, Form
from demo_commcare.records import CASE_XMLNS, FormRecord

Json = dict[str, Any]
SECOND_US = 1_000_000
_APP_TEXT = (
    'CommCare Android, version "2.55.1"(470001). App v{version}. CommCare Version 2.55.1. '
    "Build 470001, built on: 2025-01-14"
)


def case_block(
    case_id: str,
    user_id: str,
    at_us: int,
    create: Json | None = None,
    update: Json | None = None,
    index: Json | None = None,
    close: bool = False,
    empty: tuple[str, ...] = (),
) -> Json:
    """A case block; the actions in `empty` appear as null, as HQ shows an empty XML element."""
    block: Json = {"@case_id": case_id, "@date_modified": iso(at_us), "@user_id": user_id, "@xmlns": CASE_XMLNS}
    block |= dict.fromkeys(empty)
    for name, value in (("create", create), ("update", update), ("index", index)):
        if value is not None:
            block[name] = value
    if close:
        block["close"] = ""
    return block


def index_to(case_id: str, case_type: str, extension: bool = False) -> Json:
    entry = {"@case_type": case_type}
    if extension:
        entry["@relationship"] = "extension"
    return {**entry, "#text": case_id}


def form_body(
    form: Form, app: App, data: Json, domain: str, form_id: str, at_us: int, user: Json, images: tuple[str, ...] = ()
) -> Json:
    """The API object of a phone submission (without the instants of the server)."""
    app_version = _APP_TEXT.format(version=app.version)
    start_us = at_us - 240 * SECOND_US
    meta: Json = {
        "@xmlns": "http://openrosa.org/jr/xforms",
        "deviceID": "commcare_" + user["id"][:8],
        "timeStart": iso(start_us),
        "timeEnd": iso(at_us),
        "username": user["username"].split("@")[0],
        "userID": user["id"],
        "instanceID": form_id,
        "appVersion": {"@xmlns": "http://commcarehq.org/xforms", "#text": app_version},
        "drift": "0",
        "commcare_version": "2.55.1",
        "app_build_version": app.version,
        "geo_point": None,
    }
    metadata = {key: value for key, value in meta.items() if not key.startswith("@")} | {
        "appVersion": app_version,
        "location": None,
    }
    version = str(app.version)
    return {
        "id": form_id,
        "domain": domain,
        "form": {
            "@name": next(iter(form.name.values())),
            "@uiVersion": "1",
            "@version": version,
            "@xmlns": form.xmlns,
            "#type": form.root,
            **data,
            "meta": meta,
        },
        "type": form.root,
        "version": version,
        "uiversion": "1",
        "submit_ip": "10.20.0.7",
        "metadata": metadata,
        "app_id": app.app_id,
        "build_id": app.build_id,
        "initial_processing_complete": True,
        "problem": None,
        "is_phone_submission": True,
        "attachments": attachments_of(form_id, images),
        "resource_uri": "",
    }


def attachments_of(form_id: str, images: tuple[str, ...]) -> Json:
    """`form.xml` and the pictures, with the lengths that the attachment resource serves."""
    names = {"form.xml": "text/xml", **dict.fromkeys(images, "image/jpeg")}
    return {
        name: {"content_type": kind, "length": len(attachment_bytes(form_id, name))} for name, kind in names.items()
    }


def attachment_bytes(form_id: str, name: str) -> bytes:
    """The small invented content of an attachment."""
    if name == "form.xml":
        return f"<?xml version='1.0' ?><data id=\"{form_id}\"/>".encode()
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + form_id.encode() + name.encode() + b"\xff\xd9"


def system_body(
    domain: str, form_id: str, at_us: int, user_id: str, blocks: list[Json], username: str = "system"
) -> Json:
    """The API object of a submission that the server wrote itself (case API, importer): no application."""
    meta: Json = {
        "@xmlns": "http://openrosa.org/jr/xforms",
        "deviceID": "demo_commcare.case_api",
        "timeStart": iso(at_us),
        "timeEnd": iso(at_us),
        "username": username,
        "userID": user_id,
        "instanceID": form_id,
        "commcare_version": None,
        "app_build_version": None,
        "geo_point": None,
    }
    metadata = {key: value for key, value in meta.items() if not key.startswith("@")} | {
        "appVersion": None,
        "location": None,
    }
    xmlns = "http://commcarehq.org/case_api"
    return {
        "id": form_id,
        "domain": domain,
        "form": {
            "@xmlns": xmlns,
            "#type": "system",
            "case": blocks[0] if len(blocks) == 1 else blocks,
            "meta": meta,
        },
        "type": "system",
        "version": None,
        "uiversion": None,
        "submit_ip": None,
        "metadata": metadata,
        "app_id": None,
        "build_id": None,
        "initial_processing_complete": True,
        "problem": None,
        "is_phone_submission": False,
        "attachments": attachments_of(form_id, ()),
        "resource_uri": "",
    }


class Journal:
    """Collects the submissions of one project space."""

    def __init__(self, domain: str, seed: int) -> None:
        self.domain = domain
        self.rng = random.Random(f"{domain}/{seed}")
        self.records: list[FormRecord] = []

    def new_id(self) -> str:
        raw = f"{self.rng.getrandbits(128):032x}"
        return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"

    def submit(
        self,
        form: Form,
        app: App,
        data: Json,
        at_us: int,
        user: Json,
        images: tuple[str, ...] = (),
        archived: bool = False,
        indexed_us: int | None = None,
    ) -> str:
        """Record a phone submission made at `at_us`; it reaches the server seconds later. Returns its id."""
        form_id = self.new_id()
        received = at_us + self.rng.randrange(2 * SECOND_US, 90 * SECOND_US)
        indexed = indexed_us or received + self.rng.randrange(SECOND_US, 4 * SECOND_US)
        body = form_body(form, app, data, self.domain, form_id, at_us, user, images)
        self.records.append(
            FormRecord(self.domain, form_id, form.xmlns, app.app_id, received, received, indexed, body, archived)
        )
        return form_id

    def submit_system(self, blocks: list[Json], at_us: int, user_id: str) -> str:
        """Record a submission of the server itself."""
        form_id = self.new_id()
        body = system_body(self.domain, form_id, at_us, user_id, blocks)
        received = at_us + 40_000
        self.records.append(
            FormRecord(
                self.domain, form_id, body["form"]["@xmlns"], None, received, received, received + SECOND_US, body
            )
        )
        return form_id
