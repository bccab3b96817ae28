"""How may people sign in, and what do they get? The YAML file that EXPLORER_SIGN_IN_FILE names.

It is read once, at the start, and a fault stops the start: a misspelt key must never open or close a door. It holds no secret,
only the name of a variable or of a file that does. docs/sign_in.md explains every key.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from explorer.catalog import Scope, UiRole
from explorer.core.errors import SettingsInvalid
from explorer.core.loopback import is_loopback
from explorer.core.settings import PREFIX, given_variables
from explorer.core.typed_yaml import Fault, TypedYaml, YamlInvalid

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_READING = frozenset({Scope.METADATA_READ, Scope.QUERY_RUN})
_SYNCING = frozenset({Scope.RUNS_LAUNCH, Scope.RUNS_CANCEL})

Scopes = frozenset[Scope]
SelfService = Literal["off", "request", "on"]


def _https(url: str) -> str:
    """An https address, or http of this machine, as it was given: an issuer is compared letter by letter."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        raise ValueError("is no https address (http is for this machine only)")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("has a user, a query or a fragment")
    return url


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("is no name of a variable: capital letters, digits and _")
    if name.startswith(PREFIX):
        raise ValueError(f"variables with {PREFIX} are settings of the platform: choose another name")
    return name


HttpsUrl = Annotated[str, AfterValidator(_https)]
Variable = Annotated[str, AfterValidator(_variable)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClientSecret(_Part):
    """Where the secret of a registered application is: in a variable (or in the file that the variable with _FILE at its end
    names), or in a file."""

    client_secret_env: Variable | None = None
    client_secret_file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.client_secret_env is not None and self.client_secret_file is not None:
            raise ValueError("give client_secret_env or client_secret_file, not both")
        return self

    def client_secret(self) -> str:
        """The secret as it is now; empty for a public client, which has none.

        Raises:
            SettingsInvalid: it is not where the file says.
        """
        if self.client_secret_file is not None:
            return _secret_in(self.client_secret_file)
        if self.client_secret_env is None:
            return ""
        values = given_variables()
        if value := values.get(self.client_secret_env):
            return value
        if path := values.get(f"{self.client_secret_env}_FILE"):
            return _secret_in(Path(path))
        raise SettingsInvalid(
            f"The variable {self.client_secret_env} is not set.",
            next_step=f"Set it, or {self.client_secret_env}_FILE to a file that holds the secret.",
        )


class ServerSignIn(ClientSecret):
    """People sign in at a provider's server, and their membership there is what they get.

    `provider`: as in the pipelines. `url`: as tenants of that server have it. `keep_tokens`: whether the person's tokens are kept
    (encrypted) to ask again what they may do; without, what was granted ends after 12 hours.
    """

    provider: str
    url: str
    client_id: str = Field(min_length=1)
    title: str | None = None
    keep_tokens: bool = True


class IssuerSignIn(ClientSecret):
    """People sign in at an organisation's OpenID provider. `hosted_domain`: the one that Google's claim `hd` must have."""

    client_id: str = Field(min_length=1)
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    hosted_domain: str | None = None

    @field_validator("scopes")
    @classmethod
    def _with_openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("without openid there is no ID token")
        return scopes


class IssuerTokens(_Part):
    """Access tokens of the issuer are accepted as they are. `audience`: one of them must be in the token; `typ_required`: the
    token must say that it is an access token (RFC 9068)."""

    audience: tuple[str, ...] = Field(min_length=1)
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway_s: int = Field(60, ge=0, le=300)
    typ_required: bool = False

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms or (unknown := sorted(set(algorithms) - set(_ALGORITHMS))):
            raise ValueError(
                f"use some of {', '.join(_ALGORITHMS)}, not {', '.join(unknown) if algorithms else 'none'}"
            )
        return algorithms


class Rule(_Part):
    """What somebody gets whose claim fits. All rules that fit add up.

    `claim`: a dotted path, or a list of names when a name has dots. `any`: one of these values; or `matches`: the whole value
    fits this regular expression. `tenants`: keys; `{name}` stands for the expression's group of that name. `scopes`: what they
    may do there. `ui`: what they may do in the Dagster UI, which shows all tenants.
    """

    claim: str | tuple[str, ...]
    any: frozenset[str] | None = None
    matches: re.Pattern[str] | None = None
    tenants: tuple[str, ...] = ()
    scopes: Scopes = frozenset()
    ui: Literal["view", "operate"] | None = None

    @property
    def ui_role(self) -> UiRole | None:
        """The role in the Dagster UI, if the rule gives one."""
        return UiRole(f"ui:{self.ui}") if self.ui is not None else None

    @property
    def path(self) -> tuple[str, ...]:
        """The names on the way to the claim's value."""
        return tuple(self.claim.split(".")) if isinstance(self.claim, str) else self.claim

    @property
    def keys(self) -> tuple[str, ...]:
        """`tenants`, or the expression's group `tenant` where none are given; none in a rule for the UI alone."""
        return (self.tenants or ("{tenant}",)) if self.scopes else ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not self.path or not all(self.path):
            raise ValueError("claim is empty")
        if (self.any is None) == (self.matches is None):
            raise ValueError("give any or matches, one of them")
        if not self.scopes and (self.ui is None or self.tenants):
            raise ValueError("give scopes with tenants, or ui, or both")
        groups = set(self.matches.groupindex) if self.matches else set()
        used = {name for key in self.keys for name in re.findall(r"\{(\w*)\}", key)}
        if self.scopes and not self.tenants and "tenant" not in groups:
            raise ValueError("give tenants, or an expression with a group (?P<tenant>...)")
        if unknown := sorted(used - groups):
            raise ValueError(f"the expression has no group named {', '.join(unknown)}")
        return self


class Issuer(_Part):
    """An organisation's identity provider. `issuer`: exactly as in its tokens. `sign_in`: people sign in there; `tokens`: its
    access tokens are accepted. `name`: the claim that is shown for people."""

    issuer: HttpsUrl
    title: str | None = None
    sign_in: IssuerSignIn | None = None
    tokens: IssuerTokens | None = None
    name: str = "preferred_username"
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _some_use(self) -> Self:
        if self.sign_in is None and self.tokens is None:
            raise ValueError("give sign_in, tokens or both: without, the issuer is of no use")
        return self


class Roles(_Part):
    """What a member of a project space gets, by what the role allows there. `admin`: administrators; `reader`: who sees all its
    data and may read reports or edit data; `editor`: who may edit data besides. Nobody else gets anything."""

    admin: Scopes = frozenset(Scope)
    reader: Scopes = _READING
    editor: Scopes = _READING | _SYNCING


class Clients(_Part):
    """Which programs may ask for access. `redirect_hosts`: https hosts to which an answer may go; `redirect_uris`: exact
    addresses beside them; `loopback`: programs on the person's own machine; `registration`: programs may register themselves."""

    redirect_hosts: frozenset[str] = frozenset(
        {"claude.ai", "claude.com", "chatgpt.com", "vscode.dev", "www.cursor.com"}
    )
    redirect_uris: frozenset[str] = frozenset({"cursor://anysphere.cursor-mcp/oauth/callback"})
    loopback: bool = True
    registration: bool = True

    @field_validator("redirect_hosts")
    @classmethod
    def _hosts(cls, hosts: frozenset[str]) -> frozenset[str]:
        if wrong := sorted(host for host in hosts if not _HOST.fullmatch(host)):
            raise ValueError(f"no plain host name in lower case: {', '.join(wrong)}")
        return hosts


def _word(value: object) -> object:
    """YAML reads `on` and `off` as truth values."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class SignInSettings(_Part):
    """The whole file. `servers` and `issuers` by name: the name is in the redirect URI, `/oauth/callback/<name>`.

    `members_without_role`: what members get whose role is unknown. `self_service`: whether people ask the operator for project
    spaces that are no tenants yet, or administrators register them; `self_service_quota`: how many one person at most.
    """

    servers: Mapping[str, ServerSignIn] = Field(default_factory=dict)
    issuers: Mapping[str, Issuer] = Field(default_factory=dict)
    roles: Roles = Roles()
    members_without_role: Literal["deny", "read"] = "deny"
    self_service: Annotated[SelfService, BeforeValidator(_word)] = "request"
    self_service_quota: int = Field(3, ge=1, le=1000)
    clients: Clients = Clients()

    @field_validator("servers", "issuers")
    @classmethod
    def _named(cls, parts: Mapping[str, _Part]) -> Mapping[str, _Part]:
        if wrong := sorted(name for name in parts if not _NAME.fullmatch(name)):
            raise ValueError(f"no names for an address (small letters, digits, -): {', '.join(wrong)}")
        return parts

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.servers and not self.issuers:
            raise ValueError("give servers or issuers: without, nobody can sign in")
        if twice := sorted(self.servers.keys() & self.issuers.keys()):
            raise ValueError(f"names of both a server and an issuer: {', '.join(twice)}")
        known = [issuer.issuer for issuer in self.issuers.values()]
        if len(known) != len(set(known)):
            raise ValueError("two issuers have the same address")
        return self

    def secrets(self) -> Iterator[tuple[tuple[str, ...], ClientSecret]]:
        """Everything with a client secret, and its place in the file."""
        for name, server in self.servers.items():
            yield ("servers", name), server
        for name, issuer in self.issuers.items():
            if issuer.sign_in is not None:
                yield ("issuers", name, "sign_in"), issuer.sign_in


def load_sign_in(path: Path) -> SignInSettings:
    """The settings of a file, whose secrets are where it says.

    Raises:
        SettingsInvalid: names the file, the line and the key of the first faults.
    """
    try:
        file = TypedYaml(path)
        settings = file.value_of(SignInSettings)
        if faults := list(_missing_secrets(settings)):
            raise file.invalid(faults)
    except YamlInvalid as error:
        raise _unusable(error) from None
    return settings


def secret_variables(path: Path) -> tuple[str, ...]:
    """The variables in which secrets of the file may be, for the program that starts the bridge with an environment of its own.

    Raises:
        SettingsInvalid
    """
    try:
        settings = TypedYaml(path).value_of(SignInSettings)
    except YamlInvalid as error:
        raise _unusable(error) from None
    names = [part.client_secret_env for _, part in settings.secrets() if part.client_secret_env is not None]
    return tuple(name for each in names for name in (each, f"{each}_FILE"))


def _missing_secrets(settings: SignInSettings) -> Iterator[Fault]:
    for place, part in settings.secrets():
        try:
            part.client_secret()
        except SettingsInvalid as error:
            yield place, str(error)


def _unusable(error: YamlInvalid) -> SettingsInvalid:
    return SettingsInvalid(
        f"The sign-in file cannot be used: {error}",
        next_step=error.hint or "Correct the named keys; docs/sign_in.md lists them.",
    )


def _secret_in(path: Path) -> str:
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsInvalid(
            f"The secret in {path} cannot be read: {reason}.", next_step="Check the path and its permissions."
        ) from None
    if not text:
        raise SettingsInvalid(f"The file {path} is empty.", next_step="Write the secret into it.")
    return text
