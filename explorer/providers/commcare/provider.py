"""What CommCare HQ answers to the questions of `explorer.providers.base`: the table of contents of this folder."""

from collections.abc import Iterable
from typing import Any

from explorer.catalog import Credential
from explorer.core.settings import Settings
from explorer.providers.base import Access, CredentialKind, Diff, Document, Outline, Person, Refresh
from explorer.providers.commcare import servers, structure_diff
from explorer.providers.commcare.credentials import KINDS, known
from explorer.registry import Fault, Pipeline

# Of an overview for agents.
_MAX_APPS, _MAX_CASE_TYPES = 20, 60


class CommCare:
    """The provider `commcare`. A tenant is a project space; its external id is the name in the project's address."""

    name = "commcare"
    title = "CommCare"
    tenant_noun = servers.TENANT_NOUN
    credential_kinds: tuple[CredentialKind, ...] = KINDS

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
        from explorer.providers.commcare.access import verify_access

        return verify_access(server, external_id, known(credential), settings=settings, refresh=refresh)

    def look_up_person(
        self, server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
    ) -> Person:
        from explorer.providers.commcare.access import look_up_person

        return look_up_person(server, known(credential), settings=settings, refresh=refresh)

    def open_client(
        self,
        server: str,
        external_id: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
        limiter: Any = None,
    ) -> Any:
        from explorer.providers.commcare.client import CommCareClient

        return CommCareClient(
            server, external_id, known(credential), settings=settings, refresh=refresh, limiter=limiter
        )

    def faults_of(self, pipeline: Pipeline) -> Iterable[Fault]:
        return ()

    def discover(self, client: Any, pipeline: Pipeline, known: Document | None) -> Document:
        from explorer.providers.commcare.discovery import discover

        return discover(client, pipeline, known).to_dict()

    def outline(self, document: Document) -> Outline:
        from explorer.providers.commcare.structure import Structure

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
