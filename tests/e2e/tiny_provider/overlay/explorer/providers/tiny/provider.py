"""Tiny's implementation of the protocol in `explorer.providers.base`."""

from typing import Any

from explorer.providers.tiny.api import TinyApi
from explorer.providers.tiny.credentials import KINDS
from explorer.providers.tiny.paging import STYLES
from explorer.providers.tiny.servers import SERVERS, check_garden
from explorer.providers.tiny.settings import SERVICE
from explorer.providers.tiny.tables import TinyTables

from explorer.catalog import Credential
from explorer.core.settings import Settings
from explorer.http.client import ApiClient
from explorer.http.limiter import RateLimiter
from explorer.providers.base import (
    Access,
    Diff,
    Document,
    ExternalIdInvalid,
    Outline,
    Person,
    Refresh,
)
from explorer.registry import Pipeline


class Tiny:
    """The provider `tiny`. A tenant is a garden."""

    name = SERVICE.name
    title = "Tiny"
    tenant_noun = SERVICE.unit
    styles = STYLES
    tables = TinyTables()
    credential_kinds = KINDS

    def normalize_server(self, text: str) -> str:
        return SERVERS.normalize(text)

    def check_external_id(self, text: str) -> str:
        return check_garden(text)

    def external_id_key(self, external_id: str) -> str:
        return external_id

    def verify_access(
        self,
        server: str,
        external_id: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
    ) -> Access:
        person = self.look_up_person(server, credential, settings=settings)
        if external_id not in person.tenants:
            raise ExternalIdInvalid(f"There is no garden {external_id!r} for this token.", next_step="Check the name.")
        return Access(person.username, person.tenants[external_id])

    def look_up_person(
        self, server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
    ) -> Person:
        with self.open_client(server, "", credential, settings=settings) as client:
            answer = client.get_json("me", resource="me", of_tenant=False)
        gardens = {garden["id"]: garden["title"] for garden in answer["gardens"]}
        return Person(answer["user"], gardens, is_complete=True)

    def open_client(
        self,
        server: str,
        external_id: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
        limiter: RateLimiter | None = None,
    ) -> ApiClient:
        return ApiClient(TinyApi(external_id), server, credential, settings=settings, limiter=limiter)

    def discover(self, client: ApiClient, pipeline: Pipeline, known: Document | None) -> Document:
        answer: Document = client.get_json(pipeline.discovery[0].endpoint, resource=pipeline.discovery[0].name)
        return answer

    def outline(self, document: Document) -> Outline:
        fields = document["resources"]
        parts = tuple(("resource", name, len(fields[name])) for name in sorted(fields))
        return Outline({"resources": len(fields)}, parts, "fields", ())

    def overview(self, document: Document) -> dict[str, Any]:
        return {"resources": sorted(document["resources"])}

    def diff(self, old: Document, new: Document) -> Diff:
        before, after = old.get("resources", {}), new.get("resources", {})
        added = {name: sorted({*fields} - {*before.get(name, ())}) for name, fields in after.items()}
        return {name: fields for name, fields in added.items() if fields}

    def headline(self, diff: Diff) -> str:
        count = sum(map(len, diff.values()))
        return f"{count} fields new" if count else "nothing"

    def sentences(self, diff: Diff) -> list[str]:
        return [f"{name}: new fields {', '.join(fields)}." for name, fields in sorted(diff.items())]
