"""The list of all checks, in the order in which a person would check, and the report of their findings."""

import importlib

from explorer.core.errors import ExplorerError
from explorer_cli.operations.doctor.findings import Finding, Installation
from explorer_cli.output.terminal import answer_json, make_console, tell
from explorer_cli.platform.context import open_settings

# Name of the check, module beside this one, function. Each check imports its module: a missing package is a finding.
CHECKS = (
    ("Python", "installation", "python"),
    ("packages", "installation", "packages"),
    ("state folder", "installation", "state_folder"),
    ("disk space", "installation", "disk_space"),
    ("private files", "installation", "private_files"),
    ("ports", "installation", "ports"),
    ("pipelines", "stored", "pipelines"),
    ("platform", "running", "platform"),
    ("database", "stored", "database"),
    ("hardening", "stored", "hardening"),
    ("catalog", "stored", "catalog"),
    ("keyring", "stored", "keyring"),
    ("Dagster", "running", "dagster"),
    ("warm pool", "running", "warm_pool"),
    ("bridge", "running", "bridge"),
    ("request limits", "stored", "request_limits"),
    ("credentials", "stored", "credentials"),
)
_LOOKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "bold red"), "skipped": ("·", "dim")}


def run_doctor(*, online: bool, as_json: bool) -> int:
    """Show all findings; returns 1 when something is wrong."""
    settings = open_settings(writable=False)
    findings = examine(Installation.look_at(settings, online=online))
    wrong = [finding for finding in findings if finding.outcome == "wrong"]
    if as_json:
        answer_json({"ok": not wrong, "checks": [vars(finding) for finding in findings]})
    else:
        _show(findings)
    return 1 if wrong else 0


def examine(installation: Installation) -> list[Finding]:
    """All findings; a check that raises is a finding too."""
    findings: list[Finding] = []
    for name, module, function in CHECKS:
        try:
            findings += getattr(importlib.import_module(f"{__package__}.{module}"), function)(installation)
        except ExplorerError as error:
            findings.append(Finding(name, "wrong", error.message, error.next_step))
        except Exception as error:
            failed = f"The check failed: {type(error).__name__}: {error}"
            findings.append(Finding(name, "wrong", failed, "Report this: a check must not fail."))
    return findings


def _show(findings: list[Finding]) -> None:
    console = make_console(stderr=False)
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark, look = _LOOKS[finding.outcome]
        tell(console, (mark, look), f"  {finding.check:<{width}}  {finding.detail}")
        if finding.next_step:
            next_look = "cyan" if finding.outcome == "wrong" else "dim"
            tell(console, " " * (width + 5), (finding.next_step, next_look))
    wrong = sum(finding.outcome == "wrong" for finding in findings)
    tell(console, f"{wrong} to mend." if wrong else "Nothing wrong was found.", style="bold")
