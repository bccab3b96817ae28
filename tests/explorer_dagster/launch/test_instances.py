"""Each instance that deploy/ has is one that Dagster loads, and differs from the project's own by its launcher alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from devtools.instances import files, renewed
from explorer.catalog import Catalog
from explorer.core.settings import get_settings

FILES = {path.stem: path for path in files()}
LAUNCHERS = {
    "warm": "WarmRunLauncher",
    "local": "DefaultRunLauncher",
    "celery": "CeleryRunLauncher",
    "kubernetes": "K8sRunLauncher",
}
CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_an_instance_is_loaded_and_shares_the_rest(
    name: str, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPLORER_CELERY_BROKER_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("DATA_EXPLORER_IMAGE", "data-explorer:1")
    get_settings.cache_clear()
    config: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    assert FILES[name].read_text() == renewed(FILES[name]), "Run `python -m devtools.instances`."
    config["compute_logs"]["config"]["base_dir"] = str(tmp_path / "logs")
    if name == "kubernetes":
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(CLUSTER))
        config["run_launcher"]["config"] |= {
            "load_incluster_config": False,
            "kubeconfig_file": str(tmp_path / "kubeconfig"),
        }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_launcher).__name__ == LAUNCHERS[name]
        # Dagster's own asks the code server nothing.
        assert instance.run_launcher.supports_check_run_worker_health is (name != "local")
        assert instance.run_monitoring_enabled


def test_there_is_one_for_each_launcher() -> None:
    assert FILES.keys() == LAUNCHERS.keys()


def test_a_worker_of_celery_has_the_task_that_the_launcher_sends(tmp_path: Path) -> None:
    """In a process of its own, since the app is made when the module is imported."""
    code = (
        "from explorer_dagster.launch.celery_worker import app; print('execute_job' in app.tasks, app.conf.broker_url)"
    )
    environment = {
        **os.environ, "EXPLORER_HOME": str(tmp_path), "EXPLORER_CELERY_BROKER_URL": "redis://127.0.0.1:9/0",
    }  # fmt: skip
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "redis://127.0.0.1:9/0"]
