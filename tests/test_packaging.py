"""Files of a wheel beside modules: pyproject.toml names every other file of a package."""

import fnmatch
import subprocess
import tomllib

from devtools.imports import ROOT


def test_every_file_of_a_package_is_packed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    packed = {pattern.partition(".")[0].removesuffix("*") for pattern in setuptools["packages"]["find"]["include"]}
    tracked = subprocess.run(["git", "ls-files", *sorted(packed)], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name.rpartition("/")[2] for name in tracked.stdout.split() if not name.endswith(".py")]
    assert {"casts.sql", "README.md"} <= set(names)
    patterns = setuptools["package-data"]["*"]
    assert [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
