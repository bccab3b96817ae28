"""Which pages are there, and what does each show?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from explorer.catalog import Scope
from explorer.core.toolsets import Toolset
from explorer.providers.base import CredentialField
from mcp_bridge.sign_in.identity import Unavailable
from mcp_bridge.sign_in.pages.rendering import page, text

_RELOADED_EVERY_S = 2


@dataclass(frozen=True)
class ClientShown:
    """The program that wants to be connected.

    `name`: as it calls itself; `publisher`: the host that published its metadata document, None for one that registered itself;
    `redirect_host`: where the answer goes; `poses_as`: a well-known client whose name it uses without being that client.
    """

    name: str
    publisher: str | None
    redirect_host: str
    is_loopback: bool
    poses_as: str | None = None


@dataclass(frozen=True)
class Consent:
    """The page before the identity provider. `providers`: name and title of each way to sign in; `hidden`: hidden fields of the
    form, which answers `provider=<name>` or `decision=deny`, and `toolset_<name>` for each of `toolsets` that was ticked."""

    client: ClientShown
    scopes: Sequence[Scope]
    providers: Sequence[tuple[str, str]]
    toolsets: Sequence[Toolset]
    action: str
    hidden: Mapping[str, str]


@dataclass(frozen=True)
class OpenUi:
    """The page before the identity provider for who wants into the Dagster UI. As `Consent`."""

    providers: Sequence[tuple[str, str]]
    action: str
    hidden: Mapping[str, str]


@dataclass(frozen=True)
class TenantShown:
    """One tenant, and what may be done with it."""

    title: str
    key: str
    scopes: Sequence[Scope]


@dataclass(frozen=True)
class Connect:
    """The page after the identity provider. The form answers `decision=connect|other|deny`, or to `space_action` with `ask` or
    `register` and the place of a space in `unavailable`; without tenants there is no `connect`."""

    client: ClientShown
    username: str
    provider_title: str
    tenants: Sequence[TenantShown]
    unavailable: Sequence[Unavailable]
    action: str
    space_action: str
    hidden: Mapping[str, str]


@dataclass(frozen=True)
class Problem:
    """Why it does not go on. `again`: an address to start again from."""

    title: str
    message: str
    next_step: str
    status: int = 400
    again: str | None = None


@dataclass(frozen=True)
class Register:
    """The form that makes a tenant of a project space. `fields`: of one way to log in; `follows`: ways to follow schedules, of
    which the texts have names, the usual one first; `error`: of the last try. The form answers a field `field_<name>` each,
    `follows`, and `decision=register|cancel`."""

    space: str
    fields: Sequence[CredentialField]
    follows: Sequence[str]
    action: str
    hidden: Mapping[str, str]
    error: str | None = None


@dataclass(frozen=True)
class Progress:
    """The first sync of a project space. `steps`: name and state (`waiting`, `running`, `done`, `failed`); the form, there once
    it `is_finished`, answers `decision=continue`."""

    space: str
    steps: Sequence[tuple[str, str]]
    message: str
    is_finished: bool
    action: str
    hidden: Mapping[str, str]


def consent(view: Consent) -> Response:
    """Who wants to connect, what it could do, and the ways to sign in."""
    return page("consent.html", view=view, title=text("consent.title"))


def open_ui(view: OpenUi) -> Response:
    """The ways to sign in to the Dagster UI."""
    return page("open_ui.html", view=view, title=text("open_ui.title"))


def connect(view: Connect) -> Response:
    """Who signed in, and which tenants the client gets."""
    return page("connect.html", view=view, title=text("connect.title"))


def problem(view: Problem) -> Response:
    """An error for a person."""
    return page("problem.html", view.status, view=view, title=view.title)


def register(view: Register) -> Response:
    """The form for a project space that is not registered yet."""
    return page("register.html", 200 if view.error is None else 422, view=view, title=text("register.title"))


def progress(view: Progress) -> Response:
    """How far the first sync has come."""
    refresh_s = None if view.is_finished else _RELOADED_EVERY_S
    return page("progress.html", refresh_s=refresh_s, view=view, title=text("progress.title"))
