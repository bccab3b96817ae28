"""Settings: misspelt names refuse to start, values are checked, and the manual lists them all."""

import re
from pathlib import Path

import pytest

from explorer.core.errors import SettingsInvalid
from explorer.core.settings import PREFIX, Settings, check_names, load_settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [*Settings.model_fields]:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_a_misspelt_setting_refuses_to_start_and_names_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_BRIGE_PORT", "8100")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert "EXPLORER_BRIGE_PORT" in caught.value.message
    assert "EXPLORER_BRIDGE_PORT" in caught.value.next_step


def test_a_misspelt_setting_in_the_env_file_is_noticed_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EXPLORER_HOEM=/nowhere\n")
    with pytest.raises(SettingsInvalid, match="EXPLORER_HOEM"):
        load_settings()


def test_other_programs_variables_are_left_alone() -> None:
    check_names(["PATH", "DAGSTER_HOME", "EXPLORERS_CLUB"])


def test_a_bad_value_is_named_without_repeating_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_BRIDGE_PORT", "s3cret-in-the-wrong-place")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert "EXPLORER_BRIDGE_PORT" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_env_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("EXPLORER_BRIDGE_PORT=1234\nEXPLORER_DAGSTER_PORT=1235\n")
    monkeypatch.setenv("EXPLORER_DAGSTER_PORT", "4321")
    settings = load_settings()
    assert (settings.bridge_port, settings.dagster_port) == (1234, 4321)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://UI.Example.org:443/", "https://ui.example.org"),
        ("https://ui.example.org:8443", "https://ui.example.org:8443"),
        ("HTTP://localhost:80", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("", None),
    ],
)
def test_the_address_of_the_ui_is_read_as_browsers_write_it(
    monkeypatch: pytest.MonkeyPatch, given: str, meant: str | None
) -> None:
    monkeypatch.setenv("EXPLORER_UI_URL", given)
    assert load_settings().ui_url == meant


@pytest.mark.parametrize(
    "given",
    ["ui.example.org", "http://ui.example.org", "https://", "https:///x", "https://ui.example.org/dagster", "ftp://localhost",
     "https://ui.example.org?x=1", "https://me@ui.example.org", "https://ui.example.org:99999", "https://[ui.example.org",
     "https://me:hunter2"],
)  # fmt: skip
def test_an_address_of_the_ui_that_would_not_work_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("EXPLORER_UI_URL", given)
    with pytest.raises(SettingsInvalid, match="EXPLORER_UI_URL") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_DATABASE_URL", "postgresql://admin:hunter2@db.example.org/postgres")
    assert "hunter2" not in repr(load_settings())


def test_a_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a-key\n")
    monkeypatch.setenv("EXPLORER_AUDIT_KEY_FILE", str(file))
    settings = load_settings()
    assert settings.audit_key is not None
    assert settings.audit_key.get_secret_value() == "a-key"
    assert "audit_key" in settings.model_fields_set
    with monkeypatch.context() as other:
        other.delenv("EXPLORER_AUDIT_KEY_FILE")
        other.setenv("explorer_audit_key_file", str(file))
        assert load_settings().audit_key == settings.audit_key
    monkeypatch.setenv("EXPLORER_AUDIT_KEY", "another")
    with pytest.raises(SettingsInvalid, match="Both EXPLORER_AUDIT_KEY and EXPLORER_AUDIT_KEY_FILE"):
        load_settings()
    monkeypatch.delenv("EXPLORER_AUDIT_KEY")
    monkeypatch.setenv("EXPLORER_AUDIT_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings()
    # Only secrets have files.
    monkeypatch.delenv("EXPLORER_AUDIT_KEY_FILE")
    monkeypatch.setenv("EXPLORER_BRIDGE_PORT_FILE", str(file))
    with pytest.raises(SettingsInvalid, match="EXPLORER_BRIDGE_PORT_FILE"):
        load_settings()


def test_the_example_file_lists_every_setting_and_nothing_else() -> None:
    text = (ROOT / ".env.example").read_text()
    listed = set(re.findall(r"^# (EXPLORER_[A-Z_]+)=", text, flags=re.MULTILINE))
    assert listed == {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_explains_itself_in_the_example_file(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    flowing = " ".join(line.removeprefix("# ") for line in (ROOT / ".env.example").read_text().splitlines())
    assert description in flowing
