"""Commands that start, stop and look at the platform as a whole."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Json


def demo(
    once: Annotated[bool, typer.Option("--once", help="Sync, answer one question, stop.")] = False,
    as_json: Json = False,
) -> None:
    """Start everything, sync two invented project spaces, answer a question through the MCP bridge."""
    from explorer_cli.operations.demo import run_demo

    raise typer.Exit(run_demo(once=once, as_json=as_json))


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything runs; it goes on in the background.")
    ] = False,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Without the demo CommCare server.")] = False,
    as_json: Json = False,
) -> None:
    """Start the database, Dagster and the MCP bridge, and keep them running."""
    from explorer_cli.operations import lifecycle

    start = lifecycle.up_detached if detach else lifecycle.up
    raise typer.Exit(start(demo=not no_demo, as_json=as_json))


def ui(
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only show the link.")] = False,
    as_json: Json = False,
) -> None:
    """Open the Dagster UI, by a link that works once and within two minutes."""
    from explorer_cli.operations.ui import open_ui

    raise typer.Exit(open_ui(browser=not no_browser, as_json=as_json))


def down(as_json: Json = False) -> None:
    """Stop everything, the database included. Does nothing when nothing runs."""
    from explorer_cli.operations import lifecycle

    raise typer.Exit(lifecycle.down(as_json=as_json))


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show parts, queue, runs and what is wrong until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Addresses, process ids and health of each part. Exit status 0 only when all are healthy."""
    from explorer_cli.operations import lifecycle

    if watch:
        from explorer_cli.operations.watch import watch_status

        raise typer.Exit(watch_status())

    raise typer.Exit(lifecycle.status(as_json=as_json))


def metrics() -> None:
    """Print the metrics of the bridge and of Dagster, as Prometheus collects them."""
    from explorer_cli.operations.metrics import show_metrics

    raise typer.Exit(show_metrics())


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also try every tenant's credentials at its server.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look for what is wrong and say how to mend it. Exit status 1 when something is."""
    from explorer_cli.operations.doctor.report import run_doctor

    raise typer.Exit(run_doctor(online=online, as_json=as_json))
