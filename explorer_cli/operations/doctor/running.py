"""Checks of running parts: supervisor, Dagster, the pool of workers, the bridge."""

from explorer.core.home import warm_pool_socket
from explorer_cli.operations.doctor.findings import Finding, Installation, not_running, ok, warning, wrong
from explorer_cli.platform.probes import answers, dagster_problem, missing_daemons
from explorer_cli.supervision.lock import problem_of


def platform(installation: Installation) -> list[Finding]:
    if not installation.running:
        return warning("platform", "It is not running.", "Start it with `explorer up`.")
    problem = problem_of(installation.settings.home)
    if problem:
        return wrong(
            "platform",
            f"Its supervisor cannot do its work: {problem}.",
            "Mend that, and all comes back by itself; else `explorer down`, then `explorer up`.",
        )
    sick = [process for process in installation.state.get("processes", {}).values() if not process["healthy"]]
    if not sick:
        return ok("platform", f"{len(installation.state['processes'])} parts are healthy")
    return [
        Finding(
            "platform",
            "wrong",
            f"{part['title']} is {part['state']}{': ' if part['note'] else ''}{part['note']}.",
            f"Read its log in {installation.settings.home / 'logs'}.",
        )
        for part in sick
    ]


def dagster(installation: Installation) -> list[Finding]:
    url = installation.state.get("dagster_url") if installation.running else installation.settings.dagster_url
    if not url:
        return not_running("Dagster")
    problem = dagster_problem(installation.settings, url)
    if problem:
        return wrong(
            "Dagster",
            f"The code location is not loaded: {problem}",
            f"Mend the cause; details in {installation.log('code-server')}.",
        )
    missing = missing_daemons(installation.settings, url)
    if missing:
        return wrong("Dagster", f"Daemons not heard from: {', '.join(missing)}.", f"Read {installation.log('daemon')}.")
    return ok("Dagster", f"{url}, code location loaded, daemons healthy")


def warm_pool(installation: Installation) -> list[Finding]:
    if installation.settings.run_launcher != "warm":
        return ok("warm pool", "switched off by EXPLORER_RUN_LAUNCHER")
    if not installation.running:
        return not_running("warm pool")
    if warm_pool_socket(installation.settings.home).is_socket():
        return ok("warm pool", "ready to fork runs")
    return warning(
        "warm pool",
        "It does not answer; runs start slower.",
        f"It restarts by itself; if not, read {installation.log('warm-pool')}.",
    )


def bridge(installation: Installation) -> list[Finding]:
    url = str(installation.state.get("bridge_url") or "")
    if not installation.running or not url:
        return not_running("bridge")
    if answers(f"{url.removesuffix('/mcp')}/healthz"):
        return ok("bridge", url)
    return wrong("bridge", f"{url} does not answer.", f"Read {installation.log('bridge')}.")
