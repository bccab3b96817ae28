"""Bare's implementation of the protocol in `explorer.providers.base`."""

from collections.abc import Mapping
from typing import Any

from explorer.providers.bare.api import BareApi
from explorer.providers.bare.paging import STYLES
from explorer.providers.bare.settings import SERVICE

from explorer.catalog import Credential, FieldsCredential
from explorer.core.settings import Settings
from explorer.http.client import ApiClient
from explorer.http.limiter import RateLimiter
from explorer.providers.base import (
    Access,
    CredentialField,
    CredentialKind,
    Diff,
    Document,
    ExternalIdInvalid,
    Outline,
    Person,
    Refresh,
)
from explorer.providers.servers import Servers
from explorer.registry import Pipeline
from explorer.tables.plan import NoTables


def _key(server: str, values: Mapping[str, str]) -> Credential:
    return FieldsCredential("key", dict(values))


class Bare:
    """The provider `bare`. A tenant is a site, known only by its number."""

    name = SERVICE.name
    title = "Bare"
    tenant_noun = SERVICE.unit
    styles = STYLES
    tables = NoTables()
    credential_kinds = (CredentialKind("key", "Key", (CredentialField("key", "Key", is_secret=True),), _key),)

    def normalize_server(self, text: str) -> str:
        return Servers(tenant_noun=SERVICE.unit).normalize(text)

    def check_external_id(self, text: str) -> str:
        if not text.strip().isdecimal():
            raise ExternalIdInvalid("That is no site.", next_step="Give the site's number.")
        return str(int(text))

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
        with self.open_client(server, external_id, credential, settings=settings) as client:
            client.get_json("alarms", resource="alarms")
        return Access("key holder", f"Site {external_id}")

    def look_up_person(
        self, server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
    ) -> Person:
        return Person("key holder", {}, is_complete=False)

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
        return ApiClient(BareApi(external_id), server, credential, settings=settings, limiter=limiter)

    def discover(self, client: ApiClient, pipeline: Pipeline, known: Document | None) -> Document:
        return {}

    def outline(self, document: Document) -> Outline:
        return Outline({}, (), "", ())

    def overview(self, document: Document) -> dict[str, Any]:
        return {}

    def diff(self, old: Document, new: Document) -> Diff:
        return {}

    def headline(self, diff: Diff) -> str:
        return "nothing"

    def sentences(self, diff: Diff) -> list[str]:
        return []
