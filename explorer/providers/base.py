"""What does the platform ask of a kind of upstream system? The protocol that each folder of `explorer.providers` fulfils.

A tenant is (provider, server, external id). The platform keeps tenants, credentials, pages, tables and runs in one way for all
providers; what differs between them is asked here and nowhere else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from explorer.catalog import Credential, CredentialInvalid
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.http.authorization import Refresh
from explorer.http.client import ApiClient
from explorer.http.limiter import RateLimiter
from explorer.providers.paging import Styles
from explorer.registry import Pipeline
from explorer.tables.plan import TablePlanner

# What discovery found, as JSON-able values of a shape that the provider states. Kept as versions in the catalog.
Document = dict[str, Any]
# What differs between two documents, in the provider's own shape; `{}` for nothing.
Diff = dict[str, Any]


class ExternalIdInvalid(ExplorerError):
    """Not the id of a tenant of this provider."""

    code = "external_id_invalid"


@dataclass(frozen=True)
class CredentialField:
    """One thing to ask a person for. `needed_unless`: when it may be left out, in words; None: never, "" : always."""

    name: str
    title: str
    is_secret: bool = False
    needed_unless: str | None = None

    @property
    def is_required(self) -> bool:
        return self.needed_unless is None


@dataclass(frozen=True)
class CredentialKind:
    """One way to log in. `make`: (canonical server, values by field name) -> what the catalog keeps."""

    name: str
    title: str
    fields: tuple[CredentialField, ...]
    make: Callable[[str, Mapping[str, str]], Credential]

    def accepts(self, names: Iterable[str]) -> bool:
        """Whether values of these fields, no more and no less, are a credential of this kind."""
        given = set(names)
        required = {field.name for field in self.fields if field.is_required}
        return required <= given <= {field.name for field in self.fields}


@dataclass(frozen=True)
class Access:
    """What a successful check of access found: who the user is on the server, and the tenant's title for people."""

    username: str
    title: str


@dataclass(frozen=True)
class Person:
    """Whose a credential is, and the tenants listed for it: external id to title.

    `is_complete`: whether the provider proves that there are no others. Where it does not, absence says nothing.
    """

    username: str
    tenants: Mapping[str, str]
    is_complete: bool


@dataclass(frozen=True)
class Outline:
    """A document in short. `counts`: how many of each thing; `parts`: (kind, name, size) for a table of the UI, whose last column
    is headed `size_title`; `warnings`: sentences for people, one for each part that could not be read."""

    counts: Mapping[str, int]
    parts: tuple[tuple[str, str, int], ...]
    size_title: str
    warnings: tuple[str, ...]


class Provider(Protocol):
    """A kind of upstream system."""

    @property
    def name(self) -> str:
        """The folder's name: what pipelines and tenants call it."""

    @property
    def title(self) -> str:
        """The system's name for people."""

    @property
    def tenant_noun(self) -> str:
        """What people call one tenant of it, in the singular."""

    # Servers and external ids

    def normalize_server(self, text: str) -> str:
        """`scheme://host[:port]` of what an operator wrote. Raises: ServerInvalid."""

    def check_external_id(self, text: str) -> str:
        """The external id in the spelling that is kept. Raises: ExternalIdInvalid."""

    def external_id_key(self, external_id: str) -> str:
        """Two external ids of a server with the same key are one tenant."""

    # Credentials and access

    @property
    def credential_kinds(self) -> tuple[CredentialKind, ...]:
        """The ways to log in, the usual one first."""

    def verify_access(
        self,
        server: str,
        external_id: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
    ) -> Access:
        """Ask the server whether the credential may read the tenant; before anything is made for it. Raises: ExplorerError."""

    def look_up_person(
        self, server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
    ) -> Person:
        """Ask the server whose the credential is and which tenants are theirs. Raises: ExplorerError."""

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
        """A client of the tenant's API. Raises: WrongServer."""

    # Pipelines

    @property
    def styles(self) -> Styles:
        """Ways of paging, proofs and envelopes that sources of its pipelines may name."""

    # Structure

    def discover(self, client: ApiClient, pipeline: Pipeline, known: Document | None) -> Document:
        """Read what the tenant is made of. `known`: the last document, whose parts stay where they cannot be read now.

        Raises: ExplorerError.
        """

    def outline(self, document: Document) -> Outline:
        """What a document holds, in short."""

    def overview(self, document: Document) -> dict[str, Any]:
        """What a document holds, for agents: a few short lists and numbers."""

    def diff(self, old: Document, new: Document) -> Diff:
        """What changed between two documents; of a first one, with `{}` before it, everything is new."""

    def headline(self, diff: Diff) -> str:
        """A diff in one line; `nothing` for none."""

    def sentences(self, diff: Diff) -> list[str]:
        """A diff for people, a sentence for each part."""

    # Tables

    @property
    def tables(self) -> TablePlanner:
        """What plans the tables of one row per record; `NoTables` where raw rows call for none."""


def make_credential(provider: Provider, server: str, values: Mapping[str, str]) -> Credential:
    """The credential that these fields are, of whichever kind takes them.

    Raises:
        CredentialInvalid: no kind of the provider takes exactly these fields.
    """
    for kind in provider.credential_kinds:
        if kind.accepts(values):
            return kind.make(server, values)
    wanted = [f"{kind.name} ({', '.join(field.name for field in kind.fields)})" for kind in provider.credential_kinds]
    raise CredentialInvalid(
        f"{provider.title} knows no credential of these fields: {', '.join(sorted(values)) or 'none'}.",
        next_step=f"Give the fields of one kind: {'; '.join(wanted)}.",
        details={"kinds": [kind.name for kind in provider.credential_kinds]},
    )
