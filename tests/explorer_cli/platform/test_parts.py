"""The environment of children, the choice of ports, and the files that parts read when they start."""

import json
import socket
from pathlib import Path

import pytest

from explorer.core.ports import port_user
from explorer.core.settings import Settings
from explorer_cli.errors import PortInUse
from explorer_cli.platform.addresses import choose_port
from explorer_cli.platform.demo_server import DemoServer
from explorer_cli.platform.environment import child_env
from explorer_cli.platform.parts import platform_units
from explorer_cli.supervision.logs import LOG_ROTATE_BYTES, rotate
from explorer_cli.supervision.units import Part

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(
        _env_file=None,
        home=home,
        secret_keys=KEY,
        token="dex_private",
        database_url="postgresql://admin:admin-secret@db/postgres",
        dagster_port=0,
        bridge_port=0,
    )


def test_children_get_settings_but_only_the_secrets_they_need(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "someone-elses")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    units = {unit.name: unit for unit in platform_units(settings, demo=True).units if isinstance(unit, Part)}
    assert set(units) == {"demo-server", "code-server", "warm-pool", "daemon", "webserver", "bridge"}
    for part in units.values():
        assert part.env.keys().isdisjoint({"AWS_SECRET_ACCESS_KEY", "PYTHONDONTWRITEBYTECODE", "EXPLORER_TOKEN"})
        assert not any(secret in " ".join(part.argv) for secret in (KEY, "admin-secret", "dex_private"))
        assert "admin-secret" not in repr(part)
    assert {name for name, part in units.items() if KEY in part.env.values()} == {"code-server", "warm-pool", "bridge"}
    admins = {name for name, part in units.items() if "EXPLORER_DATABASE_URL" in part.env}
    assert admins == {"code-server", "warm-pool"}, "the processes in which runs are"
    assert not [name for name in units["demo-server"].env if name.startswith("EXPLORER_")]
    assert units["webserver"].env["DAGSTER_HOME"] == str(settings.home / "dagster")
    assert units["bridge"].env["EXPLORER_HOME"] == str(settings.home)


def test_without_the_warm_launcher_and_with_dagster_elsewhere_fewer_parts_run(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"dagster_url": "http://dagster.example:3000"})
    assert [unit.name for unit in platform_units(elsewhere, demo=False).units] == ["packages", "database", "bridge"]
    stock = settings.model_copy(update={"run_launcher": "default"})
    assert "warm-pool" not in [unit.name for unit in platform_units(stock, demo=False).units]


def test_child_env_carries_resolved_settings_only(settings: Settings) -> None:
    env = child_env(settings)
    assert env["EXPLORER_BRIDGE_PORT"] == "0"
    assert "EXPLORER_QUERY_TIMEOUT_S" not in env
    assert not {"EXPLORER_SECRET_KEYS", "EXPLORER_DATABASE_URL"} & env.keys()


def test_the_demo_server_keeps_its_port_and_key(settings: Settings) -> None:
    first = DemoServer.prepare(settings)
    again = DemoServer.prepare(settings)
    assert (again.port, again.api_key) == (first.port, first.api_key)
    assert first.api_key not in repr(first)
    assert (settings.home / "demo.json").stat().st_mode & 0o777 == 0o600
    with socket.create_server(("127.0.0.1", first.port)), pytest.raises(PortInUse, match=str(first.port)) as refusal:
        DemoServer.prepare(settings)
    for way_out in ("Stop that program", "--no-demo", "EXPLORER_HOME"):
        assert way_out in refusal.value.next_step
    assert "another port" not in refusal.value.next_step


def test_what_has_a_fallback_is_optional_and_the_database_is_asked_often(settings: Settings) -> None:
    units = {unit.name: unit for unit in platform_units(settings, demo=True).units}
    assert [name for name, unit in units.items() if isinstance(unit, Part) and unit.optional] == ["warm-pool"]
    assert units["database"].health_interval_s <= 3


def test_a_free_port_is_chosen_where_none_is_configured_and_the_user_of_a_taken_one_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert choose_port("127.0.0.1", 0, setting="X", preferred=taken) not in (0, taken)
        with pytest.raises(PortInUse) as refusal:
            choose_port("127.0.0.1", taken, setting="EXPLORER_X_PORT")
        assert refusal.value.details == {"port": taken, "setting": "EXPLORER_X_PORT"}
        user = port_user(taken)
        assert user is None or user.startswith("process ")
    assert choose_port("127.0.0.1", taken, setting="X") == taken


def test_the_workspace_points_to_the_private_socket(settings: Settings) -> None:
    platform_units(settings, demo=False)
    workspace = json.loads((settings.home / "run" / "workspace.yaml").read_text())
    (server,) = [entry["grpc_server"] for entry in workspace["load_from"]]
    assert server["location_name"] == "explorer"
    assert Path(server["socket"]).parent.stat().st_mode & 0o077 == 0
    assert (settings.home / "dagster" / "dagster.yaml").read_text() == (
        settings.project_dir / "dagster.yaml"
    ).read_text()


def test_a_log_is_rotated_under_a_writer_that_appends(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab") as writer:
        writer.write(b"x" * (LOG_ROTATE_BYTES + 1))
        writer.flush()
        rotate(log)
        writer.write(b"later")
    assert log.read_bytes() == b"later"
    assert (tmp_path / "part.log.1").stat().st_size == LOG_ROTATE_BYTES + 1
