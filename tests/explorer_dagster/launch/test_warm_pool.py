"""The pool watches every file from which the definitions are made."""

import os
import subprocess
import sys
from pathlib import Path

from explorer.core.settings import Settings
from explorer_dagster.launch.warm_pool import fingerprint, watched_files

ROOT = Path(__file__).parents[3]
# Every module of ours that is in memory once the definitions are.
LOADED = (
    "import sys, explorer_dagster.definitions as d; "
    "print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
)


def test_every_module_behind_the_definitions_and_every_model_is_watched(tmp_path: Path) -> None:
    environment = {**os.environ, "EXPLORER_HOME": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    ours = {path for path in map(Path, told.stdout.splitlines()) if path.is_relative_to(ROOT)}
    assert {path.relative_to(ROOT).parts[0] for path in ours} == {"explorer", "explorer_dagster"}
    watched = set(watched_files(Settings(_env_file=None, home=tmp_path, project_dir=ROOT)))
    assert ours - watched == set()
    models = {path for path in (ROOT / "dbt_project" / "models").rglob("*") if path.suffix in (".sql", ".yml")}
    assert models
    assert models - watched == set()


def test_the_fingerprint_is_another_when_a_model_or_a_pipeline_changes(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, project_dir=tmp_path)
    for folder in ("pipelines", "dbt_project/models", "dbt_project/target"):
        (tmp_path / folder).mkdir(parents=True)
    seen = [fingerprint(settings)]
    for name in ("pipelines/a.yml", "dbt_project/models/a.sql", "dbt_project/dbt_project.yml"):
        (tmp_path / name).write_text("x")
        seen.append(fingerprint(settings))
    assert len(set(seen)) == 4
    # What dbt writes is no source.
    (tmp_path / "dbt_project" / "target" / "compiled.sql").write_text("x")
    assert fingerprint(settings) == seen[-1]
