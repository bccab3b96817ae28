"""Every check of `explorer doctor` exists, and a check that cannot be imported is a finding."""

import importlib
from pathlib import Path

import pytest

from explorer.core.settings import Settings
from explorer_cli.operations.doctor import report
from explorer_cli.operations.doctor.findings import Installation


def test_every_check_is_a_function_and_every_function_a_check() -> None:
    listed = {(module, function) for _, module, function in report.CHECKS}
    package = report.__name__.rpartition(".")[0]
    written = {
        (name, function.__name__)
        for name in ("installation", "running", "stored")
        for function in vars(importlib.import_module(f"{package}.{name}")).values()
        if getattr(function, "__annotations__", {}).get("installation") is Installation
    }
    assert listed == written


def test_what_cannot_be_imported_is_a_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "CHECKS", (("odd", "nowhere", "nothing"), ("Python", "installation", "python")))
    odd, python = report.examine(Installation.look_at(Settings(_env_file=None, home=home), online=False))
    assert (odd.check, odd.outcome) == ("odd", "wrong")
    assert odd.detail.startswith("The check failed: ModuleNotFoundError")
    assert (python.check, python.outcome) == ("Python", "ok")
