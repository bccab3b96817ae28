"""Cases and forms, and how a case is computed from its forms.

Records are immutable; a change replaces one. `fold_case` applies the case blocks of a form exactly as the case
transaction format says, so that cases and forms never contradict each other. `index` lists the documents.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from demo_commcare.clock import iso

Json = dict[str, Any]
CASE_XMLNS = "http://commcarehq.org/case/transaction/v2"
_ATTRIBUTES = {"case_name": "case_name", "case_type": "case_type", "owner_id": "owner_id", "external_id": "external_id"}


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One case; instants are microseconds since 1970. `form_ids` are the forms with a block for it, oldest first."""

    domain: str
    doc_id: str
    case_type: str = ""
    case_name: str = ""
    owner_id: str = ""
    external_id: str | None = None
    opened_us: int = 0
    modified_us: int = 0
    server_modified_us: int = 0
    indexed_us: int = 0
    closed_us: int | None = None
    opened_by: str = ""
    closed_by: str | None = None
    modified_by: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    indices: dict[str, Json] = field(default_factory=dict)
    form_ids: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        return self.closed_us is not None

    def api(self, root: str = "") -> Json:
        """The case object of case v2. `root` is unused: cases carry no addresses."""
        return {
            "domain": self.domain,
            "case_id": self.doc_id,
            "case_type": self.case_type,
            "case_name": self.case_name,
            "external_id": self.external_id,
            "owner_id": self.owner_id,
            "date_opened": iso(self.opened_us),
            "last_modified": iso(self.modified_us),
            "server_last_modified": iso(self.server_modified_us),
            "indexed_on": iso(self.indexed_us),
            "closed": self.closed,
            "date_closed": None if self.closed_us is None else iso(self.closed_us),
            "is_deprecated": False,
            "properties": dict(self.properties),
            "indices": {name: dict(index) for name, index in self.indices.items()},
        }

    def api_v1(self) -> Json:
        """The case object of the older, tastypie resource."""
        inner = {
            "case_name": self.case_name,
            "case_type": self.case_type,
            "owner_id": self.owner_id,
            "external_id": self.external_id,
            "date_opened": iso(self.opened_us),
        }
        return {
            "id": self.doc_id,
            "case_id": self.doc_id,
            "domain": self.domain,
            "user_id": self.modified_by,
            "closed": self.closed,
            "date_closed": None if self.closed_us is None else iso(self.closed_us),
            "date_modified": iso(self.modified_us),
            "server_date_modified": iso(self.server_modified_us),
            "server_date_opened": iso(self.opened_us),
            "indexed_on": iso(self.indexed_us),
            "opened_by": self.opened_by,
            "closed_by": self.closed_by,
            "properties": {**self.properties, **inner},
            "indices": {name: dict(index) for name, index in self.indices.items()},
            "xform_ids": list(self.form_ids),
            "resource_uri": f"/a/{self.domain}/api/case/v1/{self.doc_id}/",
        }


@dataclass(frozen=True, slots=True)
class FormRecord:
    """One submission. `body` is the API object without its instants, its address prefix and its archive flag."""

    domain: str
    doc_id: str
    xmlns: str
    app_id: str | None
    received_us: int
    server_modified_us: int
    indexed_us: int
    body: Json
    archived: bool = False
    edited_us: int | None = None
    edited_by: str | None = None

    @property
    def form(self) -> Json:
        form: Json = self.body["form"]
        return form

    def case_ids(self) -> list[str]:
        return list(dict.fromkeys(block["@case_id"] for block in case_blocks(self.form)))

    def api(self, root: str = "") -> Json:
        """The form object; `root` (`https://host`) makes the attachment addresses absolute."""
        attachments = {
            name: {**entry, "url": f"{root}/a/{self.domain}/api/form_attachment/v1/{self.doc_id}/{name}"}
            for name, entry in self.body["attachments"].items()
        }
        return {
            **self.body,
            "attachments": attachments,
            "archived": self.archived,
            "received_on": iso(self.received_us),
            "server_modified_on": iso(self.server_modified_us),
            "indexed_on": iso(self.indexed_us),
            "edited_on": None if self.edited_us is None else iso(self.edited_us),
            "edited_by_user_id": self.edited_by,
        }


def json_bytes(value: Any) -> bytes:
    """Compact JSON, non-Latin text as it is; a lone surrogate, which UTF-8 cannot encode, is escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def case_blocks(node: Any) -> Iterator[Json]:
    """Every case block at any depth of a form, in document order."""
    if isinstance(node, dict):
        if "@case_id" in node and node.get("@xmlns") == CASE_XMLNS:
            yield node
            return
        for value in node.values():
            yield from case_blocks(value)
    elif isinstance(node, list):
        for value in node:
            yield from case_blocks(value)


def block_actions(block: Json) -> list[str]:
    """Which of create, update, index and close a block carries (empty actions are null in the answer)."""
    actions = [action for action in ("create", "update", "index") if block.get(action)]
    return [*actions, "close"] if "close" in block else actions


def fold_case(case: CaseRecord | None, block: Json, form: FormRecord, modified_us: int) -> CaseRecord:
    """The case after `block` of `form`, which the device wrote at `modified_us`."""
    current = case or CaseRecord(
        form.domain,
        block["@case_id"],
        opened_us=modified_us,
        opened_by=block.get("@user_id", ""),
        owner_id=block.get("@user_id", ""),
    )
    changes: dict[str, Any] = {}
    properties = dict(current.properties)
    for name, value in {**(block.get("create") or {}), **(block.get("update") or {})}.items():
        if name in _ATTRIBUTES:
            changes[_ATTRIBUTES[name]] = value
        elif isinstance(value, str):
            properties[name] = value
    indices = dict(current.indices)
    for name, index in (block.get("index") or {}).items():
        indices[name] = {
            "case_id": index["#text"],
            "case_type": index["@case_type"],
            "relationship": index.get("@relationship", "child"),
        }
    if "close" in block and current.closed_us is None:
        changes |= {"closed_us": modified_us, "closed_by": block.get("@user_id", "")}
    form_ids = current.form_ids if form.doc_id in current.form_ids else (*current.form_ids, form.doc_id)
    return replace(
        current,
        **changes,
        properties=properties,
        indices=indices,
        form_ids=form_ids,
        modified_us=modified_us,
        modified_by=block.get("@user_id", ""),
        server_modified_us=max(current.server_modified_us, form.received_us),
    )
