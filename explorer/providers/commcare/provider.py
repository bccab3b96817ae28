"""CommCare HQ's implementation of `explorer.providers.base`: the table of contents of this folder."""

from typing import Any

from explorer.catalog import Credential
from explorer.core.settings import Settings
from explorer.http.authorization import Refresh
from explorer.http.client import ApiClient
from explorer.http.limiter import RateLimiter
from explorer.providers.base import Access, CredentialKind, Diff, Document, Outline, Person
from explorer.providers.commcare import discovery, servers, structure_diff
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.credentials import KINDS
from explorer.providers.commcare.paging import STYLES
from explorer.providers.commcare.people import access
from explorer.providers.commcare.people.sign_in import CommCarePeople
from explorer.providers.commcare.settings import SERVICE
from explorer.providers.commcare.structure import Structure
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.registry import Pipeline

# Limit of an overview for agents.
_MAX_APPS, _MAX_CASE_TYPES = 20, 60


class CommCare:
    """The provider `commcare`. A tenant is a project space; its external id is the name in the project's address."""

    name = SERVICE.name
    title = "CommCare"
    tenant_noun = SERVICE.unit
    credential_kinds: tuple[CredentialKind, ...] = KINDS
    styles = STYLES
    tables = CommCareTables()
    people = CommCarePeople()

    def normalize_server(self, text: str) -> str:
        return servers.SERVERS.normalize(text)

    def check_external_id(self, text: str) -> str:
        return servers.check_domain(text)

    def external_id_key(self, external_id: str) -> str:
        return servers.domain_key(external_id)

    def verify_access(
        self,
        server: str,
        external_id: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
    ) -> Access:
        return access.verify_access(server, external_id, credential, settings=settings, refresh=refresh)

    def look_up_person(
        self, server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
    ) -> Person:
        return access.look_up_person(server, credential, settings=settings, refresh=refresh)

    def open_client(
        self,
        server: str,
        external_id: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
        limiter: RateLimiter | None = None,
    ) -> CommCareClient:
        return CommCareClient(server, external_id, credential, settings=settings, refresh=refresh, limiter=limiter)

    def discover(self, client: ApiClient, pipeline: Pipeline, known: Document | None) -> Document:
        return discovery.discover(client, pipeline, known).to_dict()

    def outline(self, document: Document) -> Outline:
        return Structure.from_dict(document).outline()

    def overview(self, document: Document) -> dict[str, Any]:
        return {
            "apps": [app["name"] for app in document.get("apps", ())][:_MAX_APPS],
            "case_types": [case_type["name"] for case_type in document.get("case_types", ())][:_MAX_CASE_TYPES],
            "forms": len(document.get("forms", ())),
        }

    def diff(self, old: Document, new: Document) -> Diff:
        return structure_diff.structure_diff(old, new)

    def headline(self, diff: Diff) -> str:
        return structure_diff.headline(diff)

    def sentences(self, diff: Diff) -> list[str]:
        return structure_diff.sentences(diff)
