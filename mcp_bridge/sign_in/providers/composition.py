"""Builds the ways to sign in that the settings' file names."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from explorer.catalog import Catalog
from explorer.core.errors import ExplorerError, SettingsInvalid
from explorer.core.loopback import is_loopback
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer.providers.base import Provider, SignsPeopleIn
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.identity import IdentityProvider
from mcp_bridge.sign_in.providers.issuer import Issuer
from mcp_bridge.sign_in.providers.issuer_tokens import IssuerTokens, TakenIssuer
from mcp_bridge.sign_in.providers.membership import Membership
from mcp_bridge.sign_in.providers.of_server import ServerPeople
from mcp_bridge.sign_in.providers.openid import OpenIdPeople
from mcp_bridge.sign_in.providers.roles import Roles
from mcp_bridge.sign_in.providers.self_service import ServerSelfService
from mcp_bridge.sign_in.server import SignInParts
from mcp_bridge.sign_in.settings_file import ServerSignIn, SignInSettings, load_sign_in

ProviderNamed = Callable[[str], Provider]


def sign_in_parts(
    path: Path,
    settings: Settings,
    platform: PlatformDatabase,
    databases: TenantDatabases,
    provider_named: ProviderNamed,
) -> SignInParts:
    """How people sign in by the file `path`. Nothing connects yet.

    Raises:
        SettingsInvalid
    """
    file = load_sign_in(path)

    def catalog() -> Catalog:
        return platform.catalog

    # One for both uses, so that its keys are fetched once.
    issuers = {name: Issuer(of.issuer) for name, of in file.issuers.items()}
    servers = list(_servers(file, settings, catalog, databases, provider_named))
    providers: list[IdentityProvider] = [
        *servers,
        *(
            OpenIdPeople(name, of, of.sign_in, issuers[name], CatalogCalls(catalog))
            for name, of in file.issuers.items()
            if of.sign_in is not None
        ),
    ]
    taken = {
        of.issuer: TakenIssuer(name, of, issuers[name]) for name, of in file.issuers.items() if of.tokens is not None
    }
    return SignInParts(
        providers,
        file.clients,
        Membership({each.name: each for each in providers}, catalog),
        IssuerTokens(taken, catalog) if taken else None,
        ui_address=lambda: _ui_address(settings),
        ui_session_s=round(settings.ui_session_hours * 3600),
        self_service={each.name: ServerSelfService(each) for each in servers},
    )


def _ui_address(settings: Settings) -> str | None:
    """Where browsers reach the Dagster UI; None where that is not known, or where their sessions would travel in the clear."""
    address = settings.ui_url or settings.dagster_url or read_state(settings.home).get("dagster_url") or ""
    parts = urlsplit(address)
    return address if parts.scheme == "https" or is_loopback(parts.hostname or "") else None


def _servers(
    file: SignInSettings,
    settings: Settings,
    catalog: Callable[[], Catalog],
    databases: TenantDatabases,
    provider_named: ProviderNamed,
) -> Iterator[ServerPeople]:
    for name, of in file.servers.items():
        provider = _known(name, of, provider_named)
        people = provider.people if isinstance(provider, SignsPeopleIn) else None
        if people is None:
            raise SettingsInvalid(
                f"The sign-in file: servers.{name}: people cannot sign in at {provider.title}.",
                next_step="Leave the server out, or name another provider.",
            )
        roles = Roles(catalog, databases, provider, people, settings)
        yield ServerPeople(
            name, provider.normalize_server(of.url), of, file, provider, people, roles, catalog, settings
        )


def _known(name: str, of: ServerSignIn, provider_named: ProviderNamed) -> Provider:
    """The provider of a server, whose address it can use."""
    try:
        provider = provider_named(of.provider)
        provider.normalize_server(of.url)
    except ExplorerError as error:
        raise SettingsInvalid(f"The sign-in file: servers.{name}: {error.message}", next_step=error.next_step) from None
    return provider
