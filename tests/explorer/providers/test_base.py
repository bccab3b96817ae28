"""Code shared by all providers: making credentials from fields, and pipelines that name a provider."""

from pathlib import Path

import pytest

from explorer.catalog import ApiKeyCredential, CredentialInvalid, OAuthCredential
from explorer.providers import faults_of, provider_named, provider_names
from explorer.providers.base import make_credential
from explorer.registry import PipelineInvalid, load_pipeline, load_pipelines

ROOT = Path(__file__).resolve().parents[3]
SERVER = "https://www.commcarehq.org"
COMMCARE = provider_named("commcare")


def test_fields_become_the_kind_that_takes_them() -> None:
    key = make_credential(COMMCARE, SERVER, {"username": "u", "api_key": "k"})
    assert key == ApiKeyCredential("u", "k")
    grant = make_credential(COMMCARE, SERVER, {"client_id": "c", "refresh_token": "r"})
    assert grant == OAuthCredential("c", "", f"{SERVER}/oauth/token/", "", "r")
    own = {"client_id": "c", "refresh_token": "r", "client_secret": "s", "token_url": f"{SERVER}/t/"}
    assert make_credential(COMMCARE, SERVER, own) == OAuthCredential("c", "s", f"{SERVER}/t/", "", "r")


@pytest.mark.parametrize(
    "fields", [{}, {"username": "u"}, {"token": "t"}, {"username": "u", "api_key": "k", "refresh_token": "r"}]
)
def test_fields_of_no_kind_are_refused_and_not_repeated(fields: dict[str, str]) -> None:
    with pytest.raises(CredentialInvalid) as refused:
        make_credential(COMMCARE, SERVER, {**fields, **({"secret": "hunter2"} if fields else {})})
    assert "api_key (username, api_key)" in refused.value.next_step
    assert "hunter2" not in str(refused.value)


def test_a_pipeline_of_an_unknown_provider_is_refused_with_file_and_line(tmp_path: Path) -> None:
    shipped = (ROOT / "pipelines" / "commcare_sync.yml").read_text()
    path = tmp_path / "other.yml"
    path.write_text(shipped.replace("provider: commcare", "provider: nowhere"))
    line = path.read_text().splitlines().index("provider: nowhere") + 1
    with pytest.raises(
        PipelineInvalid, match=rf"other\.yml:{line}: provider: there is no provider 'nowhere'; .*commcare"
    ):
        load_pipeline(path, faults_of)
    assert load_pipeline(path).provider == "nowhere"


def test_each_provider_has_a_pipeline() -> None:
    pipelines = load_pipelines(ROOT / "pipelines", faults_of).values()
    assert {pipeline.provider for pipeline in pipelines} == {*provider_names()} >= {"commcare"}
