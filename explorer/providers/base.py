"""What must a kind of upstream system offer? The protocol that each folder of `explorer.providers` implements.

A tenant is (provider, server, external id). The platform handles tenants, credentials, pages, tables and runs in the same way
for all providers; this protocol is the only place where they differ.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from explorer.catalog import Credential, CredentialInvalid, ProviderTokens
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.http.authorization import Refresh
from explorer.http.client import ApiClient
from explorer.http.limiter import RateLimiter
from explorer.providers.paging import Styles
from explorer.registry import Pipeline
from explorer.tables.plan import TablePlanner

# A discovered structure: JSON-able values of the provider's own shape. The catalog stores versions of it.
Document = dict[str, Any]
# The difference of two documents, in the provider's own shape; `{}` for none.
Diff = dict[str, Any]


class ExternalIdInvalid(ExplorerError):
    """The text is no valid tenant id of this provider."""

    code = "external_id_invalid"


@dataclass(frozen=True)
class CredentialField:
    """One value to ask a person for. `needed_unless`: in words, when it may be left out; None: never needed, "": always
    needed."""

    name: str
    title: str
    is_secret: bool = False
    needed_unless: str | None = None

    @property
    def is_required(self) -> bool:
        return self.needed_unless is None


@dataclass(frozen=True)
class CredentialKind:
    """One way to log in. `make`: (canonical server, values by field name) -> the credential that the catalog stores."""

    name: str
    title: str
    fields: tuple[CredentialField, ...]
    make: Callable[[str, Mapping[str, str]], Credential]

    def accepts(self, names: Iterable[str]) -> bool:
        """Whether exactly these fields make a credential of this kind."""
        given = set(names)
        required = {field.name for field in self.fields if field.is_required}
        return required <= given <= {field.name for field in self.fields}


@dataclass(frozen=True)
class Access:
    """The result of a successful access check: the user on the server, and the tenant's title for people. `sees_all`: the server
    says that the user sees all of the tenant's data; False where it did not tell. Who sees a part is refused."""

    username: str
    title: str
    sees_all: bool = True


@dataclass(frozen=True)
class Person:
    """The owner of a credential, and the tenants listed for it: external id to title.

    `is_complete`: whether the provider guarantees that there are no others. Without that, a missing tenant proves nothing.
    """

    username: str
    tenants: Mapping[str, str]
    is_complete: bool


@dataclass(frozen=True)
class Outline:
    """A summary of a document. `counts`: number of each kind of part; `parts`: (kind, name, size) for a table in the UI, whose
    last column has the title `size_title`; `warnings`: sentences for people, one for each part that could not be read."""

    counts: Mapping[str, int]
    parts: tuple[tuple[str, str, int], ...]
    size_title: str
    warnings: tuple[str, ...]


class Provider(Protocol):
    """A kind of upstream system."""

    @property
    def name(self) -> str:
        """The folder's name, which pipelines and tenants use."""

    @property
    def title(self) -> str:
        """The system's name for people."""

    @property
    def tenant_noun(self) -> str:
        """The word for one tenant, in the singular."""

    # Servers and external ids

    def normalize_server(self, text: str) -> str:
        """`scheme://host[:port]` of an operator's input. Raises: ServerInvalid."""

    def check_external_id(self, text: str) -> str:
        """The external id in its canonical spelling. Raises: ExternalIdInvalid."""

    def external_id_key(self, external_id: str) -> str:
        """A key that is equal for two external ids of the same tenant."""

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
        """Ask the server whether the credential may read the tenant, before anything is made for it. Raises: ExplorerError."""

    def look_up_person(
        self, server: str, credential: Credential, *, settings: Settings, refresh: Refresh | None = None
    ) -> Person:
        """Ask the server who owns the credential and which tenants are theirs. Raises: ExplorerError."""

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
        """Ways of paging, proofs and envelopes that the provider's pipelines may name."""

    # Structure

    def discover(self, client: ApiClient, pipeline: Pipeline, known: Document | None) -> Document:
        """Read the tenant's structure. `known`: the last document; its parts stay where they cannot be read now.

        Raises: ExplorerError.
        """

    def outline(self, document: Document) -> Outline:
        """A summary of a document."""

    def overview(self, document: Document) -> dict[str, Any]:
        """A summary of a document for agents: a few short lists and numbers."""

    def diff(self, old: Document, new: Document) -> Diff:
        """The difference of two documents; with `{}` as the old one everything is new."""

    def headline(self, diff: Diff) -> str:
        """A diff in one line; `nothing` if it is empty."""

    def sentences(self, diff: Diff) -> list[str]:
        """A diff for people, a sentence for each part."""

    # Tables

    @property
    def tables(self) -> TablePlanner:
        """The planner of generated tables; `NoTables` if there are none."""


class SignInEnded(ExplorerError):
    """The person was deactivated at the provider's server, or took the consent back."""

    code = "sign_in_ended"


@dataclass(frozen=True)
class SignInApp:
    """The application that is registered at a server, so that people can sign in there. `server`: its canonical address;
    `client_secret`: empty for a public application."""

    server: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class SignedInPerson:
    """The owner of a person's tokens. `subject` never changes and is never given to somebody else; `tenants`: all that are theirs
    and that they allowed, external id to title."""

    subject: str
    username: str
    tenants: Mapping[str, str]


@dataclass(frozen=True)
class Role:
    """What a member of a tenant may do there. `sees_all`: all of the tenant's data, not only that of some places."""

    name: str
    is_admin: bool
    sees_all: bool
    may_read: bool
    may_edit: bool


@dataclass(frozen=True)
class LoadedRoles:
    """Where a sync leaves the roles of a tenant's members: a raw table with one record per member, whose `subject_column` is the
    person's subject."""

    table: str
    subject_column: str


class PeopleSignIn(Protocol):
    """How people sign in at the provider's servers. All methods block."""

    @property
    def loaded_roles(self) -> LoadedRoles:
        """The raw table with the members' roles."""

    def authorize_url(self, app: SignInApp, *, redirect_uri: str, state: str, challenge: str) -> str:
        """The address to send the browser to. `challenge`: PKCE, S256."""

    def exchange(
        self, app: SignInApp, *, code: str, verifier: str, redirect_uri: str, settings: Settings
    ) -> ProviderTokens:
        """The tokens of a code. Raises: ApiError, which is also a TransientError when nothing is wrong with the code."""

    def look_up(
        self,
        app: SignInApp,
        tokens: ProviderTokens,
        *,
        settings: Settings,
        keep: Callable[[ProviderTokens], object] = lambda tokens: None,
    ) -> SignedInPerson:
        """Who the person is, and the complete list of what is theirs. `keep`: called at once with renewed tokens, because the
        server may have ended the old ones.

        Raises:
            SignInEnded
            ApiError: nothing is known.
        """

    def told_role(
        self,
        app: SignInApp,
        tokens: ProviderTokens,
        external_id: str,
        *,
        settings: Settings,
        member: str | None = None,
        keep: Callable[[ProviderTokens], object] = lambda tokens: None,
    ) -> Role | None:
        """The person's role in a tenant that may not be registered here, by their own tokens, or that of another `member`, a
        username; None when the server does not tell them, which it does its administrators. `keep` and errors as in `look_up`."""

    def role_of(self, record: Mapping[str, Any]) -> Role | None:
        """The role in a record of `loaded_roles`; None when it does not say."""

    def ask_role(self, client: ApiClient, subject: str, username: str) -> Role | None:
        """The role of a member of the client's tenant, from the server; None when it does not tell. Raises: ApiError."""


@runtime_checkable
class SignsPeopleIn(Protocol):
    """A provider at whose servers people can sign in."""

    @property
    def people(self) -> PeopleSignIn:
        """How they do."""


def make_credential(provider: Provider, server: str, values: Mapping[str, str]) -> Credential:
    """The credential of these fields, of the kind that accepts them.

    Raises:
        CredentialInvalid: no kind of the provider accepts exactly these fields.
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
