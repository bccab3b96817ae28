"""Options for a tenant's credential and provider."""

from pathlib import Path

import pytest

from explorer.catalog import ApiKeyCredential, OAuthCredential
from explorer.core.settings import Settings
from explorer.providers import UnknownProvider, provider_named
from explorer_cli.errors import SecretMissing, UsageInvalid
from explorer_cli.operations.tenants.registering import CredentialOptions, chosen_provider

ROOT = Path(__file__).parents[4]
COMMCARE = provider_named("commcare")
BOTH_KINDS = (
    "Give --username and --api-key-env, or --oauth-client-id and --oauth-refresh-token-env"
    " (and --oauth-client-secret-env, unless the client is public)."
)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " the-key\n")
    monkeypatch.setenv("A_TOKEN", "the-token")
    monkeypatch.setenv("EMPTY", " ")


@pytest.mark.usefixtures("variables")
def test_options_become_a_credential() -> None:
    options = CredentialOptions.parse({"username": "u", "client_id": None}, {"api_key": "A_KEY"}, ())
    assert options.read(COMMCARE, "www") == ApiKeyCredential("u", "the-key")
    options = CredentialOptions.parse({"client_id": "c"}, {"refresh_token": "A_TOKEN"}, ())
    assert options.read(COMMCARE, "eu") == OAuthCredential(
        "c", "", "https://eu.commcarehq.org/oauth/token/", "", "the-token"
    )


@pytest.mark.usefixtures("variables")
def test_any_field_can_be_given_by_a_variable() -> None:
    options = CredentialOptions.parse({"username": "u"}, {}, ("api_key=A_KEY",))
    assert options.read(COMMCARE, "www") == ApiKeyCredential("u", "the-key")


@pytest.mark.parametrize(
    ("values", "variables", "message"),
    [
        ({}, {}, "One kind of credential is needed."),
        ({"username": "u"}, {}, "The credential is not complete."),
        ({}, {"client_secret": "A_KEY"}, "The credential is not complete."),
        ({"username": "u", "client_id": "c"}, {"api_key": "A_KEY"}, "One kind of credential is needed."),
    ],
)
def test_half_a_credential_is_refused(values: dict[str, str], variables: dict[str, str], message: str) -> None:
    with pytest.raises(UsageInvalid) as refused:
        CredentialOptions.parse(values, variables, ()).read(COMMCARE, "www")
    assert (refused.value.message, refused.value.next_step) == (message, BOTH_KINDS)


@pytest.mark.parametrize("text", ["api_key", "=A_KEY", "api_key="])
def test_a_field_without_a_variable_is_refused(text: str) -> None:
    with pytest.raises(UsageInvalid, match="FIELD=VARIABLE"):
        CredentialOptions.parse({}, {}, (text,))


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("variable", ["EMPTY", "NOT_SET_ANYWHERE"])
def test_an_empty_variable_is_no_secret(variable: str) -> None:
    with pytest.raises(SecretMissing, match=variable):
        CredentialOptions.parse({"username": "u"}, {"api_key": variable}, ()).read(COMMCARE, "www")


def test_the_provider_is_that_of_the_pipelines_unless_they_are_of_several(tmp_path: Path) -> None:
    def settings(folder: Path) -> Settings:
        return Settings(_env_file=None, home=tmp_path / "home", project_dir=folder)

    assert chosen_provider(settings(ROOT), None).name == "commcare"
    assert chosen_provider(settings(ROOT), "commcare").name == "commcare"
    with pytest.raises(UnknownProvider):
        chosen_provider(settings(ROOT), "nowhere")
