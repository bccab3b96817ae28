"""The file of sign-in: every fault stops the start and is named with its line; secrets are where the file says."""

from pathlib import Path

import pytest

from explorer.catalog import Scope
from explorer.core.errors import SettingsInvalid
from mcp_bridge.sign_in.settings_file import SignInSettings, load_sign_in

SERVER = "servers:\n  www: {provider: p, url: https://hq.example, client_id: dex, client_secret_env: HQ_SECRET}\n"
ISSUER = """\
issuers:
  acme:
    issuer: https://id.acme.org/realms/main
    tokens: {audience: [https://mcp.acme.org/mcp]}
    rules:
      - {claim: realm_access.roles, any: [dex-reader], tenants: [clinic-a], scopes: [metadata:read, query:run]}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HQ_SECRET", "s3cret")
    monkeypatch.delenv("HQ_SECRET_FILE", raising=False)

    def loaded(text: str) -> SignInSettings:
        path = tmp_path / "sign_in.yml"
        path.write_text(text)
        return load_sign_in(path)

    return loaded


def test_what_the_file_leaves_out_has_safe_defaults(load) -> None:  # type: ignore[no-untyped-def]
    settings = load(SERVER)
    assert settings.members_without_role == "deny"
    assert settings.self_service == "request"
    assert settings.roles.reader == {Scope.METADATA_READ, Scope.QUERY_RUN}
    assert Scope.SCHEMA_MANAGE not in settings.roles.editor
    assert "claude.ai" in settings.clients.redirect_hosts
    assert settings.servers["www"].client_secret() == "s3cret"


@pytest.mark.parametrize(("word", "meant"), [("off", "off"), ("on", "on"), ("request", "request")])
def test_on_and_off_are_words_though_yaml_has_truth_values_for_them(load, word: str, meant: str) -> None:  # type: ignore[no-untyped-def]
    assert load(f"{SERVER}self_service: {word}\n").self_service == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mapping"),
        ("self_service: off\n", "nobody can sign in"),
        (SERVER + "self_servise: off\n", r"sign_in\.yml:3: self_servise"),
        (SERVER + "members_without_role: deny\nmembers_without_role: read\n", "given twice"),
        (SERVER.replace("client_id: dex", "client_id: dex, secret: abc"), r"sign_in\.yml:2: servers\.www\.secret"),
        (SERVER.replace("www:", "'w/w':"), "no names for an address"),
        (SERVER.replace("HQ_SECRET", "EXPLORER_SECRET"), "settings of the platform"),
        (SERVER.replace("HQ_SECRET", "NOT_SET_AT_ALL"), "NOT_SET_AT_ALL is not set"),
        (SERVER + "clients: {redirect_hosts: ['*.claude.ai']}\n", "no plain host name"),
        (SERVER + ISSUER.replace("acme:", "www:"), "both a server and an issuer"),
        (ISSUER.replace("https://id", "http://id"), "no https address"),
        (ISSUER.replace("]}\n    rules", "], algorithms: [HS256]}\n    rules"), "not HS256"),
        (ISSUER.replace("]}\n    rules", "], algorithms: [none]}\n    rules"), "not none"),
        (ISSUER.replace(", scopes: [metadata:read, query:run]", ""), "give scopes with tenants, or ui"),
        (ISSUER.replace("query:run]", "query:run], ui: own"), r"rules\.0\.ui"),
        (ISSUER.replace("metadata:read", "everything"), r"rules\.0\.scopes"),
        (ISSUER.replace("any: [dex-reader], ", ""), "any or matches"),
        (ISSUER.replace("any: [dex-reader]", "matches: 'a(b'"), "rules.0.matches"),
        (ISSUER.replace("any: [dex-reader], tenants: [clinic-a]", "matches: 'chw-(?P<t>.*)'"), "give tenants"),
        (ISSUER.replace("any: [dex-reader], tenants: [clinic-a]", "matches: 'a(?P<t>b)', tenants: ['{x}']"), "group named x"),
        (ISSUER.replace("    tokens: {audience: [https://mcp.acme.org/mcp]}\n", ""), "of no use"),
    ],
)  # fmt: skip
def test_a_fault_stops_the_start_and_is_named(load, text: str, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsInvalid, match=said) as refused:
        load(text)
    assert refused.value.next_step


def test_a_secret_may_be_in_a_file_that_the_variable_names(load, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("HQ_SECRET")
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("HQ_SECRET_FILE", str(tmp_path / "secret"))
    server = load(SERVER).servers["www"]
    assert server.client_secret() == "from a file"
    (tmp_path / "secret").write_text("changed")
    assert server.client_secret() == "changed"
    assert "changed" not in repr(server)


def test_the_env_file_is_read_for_secrets_too(load, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("HQ_SECRET")
    (tmp_path / ".env").write_text("HQ_SECRET=from dotenv\n")
    assert load(SERVER).servers["www"].client_secret() == "from dotenv"


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_sign_in(tmp_path / "none.yml")


def test_a_claim_with_dots_in_its_name_is_a_list(load) -> None:  # type: ignore[no-untyped-def]
    text = ISSUER.replace("realm_access.roles", '["https://acme.org/teams"]')
    assert load(text).issuers["acme"].rules[0].path == ("https://acme.org/teams",)
