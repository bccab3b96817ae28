"""`python -m benchmarks`: run all benchmarks or some, show a table, write JSON, tables and charts."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.agents.metadata import metadata
from benchmarks.agents.queries import queries
from benchmarks.agents.small_tenant import small_tenant
from benchmarks.agents.tenants import tenants
from benchmarks.charts import draw
from benchmarks.ground import ROOT, Ground
from benchmarks.loading import BENCHMARKS as LOADING
from benchmarks.loading import SCALES
from benchmarks.results import Result, claims_table, machine, markdown, measures_table, write_json
from benchmarks.transforms import transforms

BENCHMARKS = {
    **LOADING,
    "transforms": transforms,
    "small_tenant": small_tenant,
    "tenants": tenants,
    "metadata": metadata,
    "queries": queries,
}
CHARTS = ROOT / "build" / "benchmarks"


app = typer.Typer(add_completion=False)


class Steps:
    """Prints a line per step and, in a terminal, the number of rows so far."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._task = progress.add_task("", total=None)
        self._began = time.monotonic()
        self.benchmark = ""

    def __call__(self, what: str) -> Callable[[int], None]:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._console.print(f"[dim]{minutes:3d}:{seconds:02d}[/] {self.benchmark}: {what}", highlight=False)
        self._progress.reset(self._task, description=self.benchmark, total=None)
        return lambda rows: self._progress.update(self._task, completed=rows)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which benchmarks; all when none is named.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the benchmarks and stop.")] = False,
    scale: Annotated[
        str, typer.Option(help="small takes minutes, full the sizes of the manual; tiny tries that all works.")
    ] = "small",
    json: Annotated[Path, typer.Option(help="Where the results go.")] = CHARTS / "results.json",
    charts: Annotated[Path, typer.Option(help="Where charts and results.md go.")] = CHARTS,
) -> None:
    """Measure the platform beside its baselines. Status 1 when a benchmark could not be run; a missed goal is no error."""
    console = Console()
    if listed:
        for name, benchmark in BENCHMARKS.items():
            console.print(f"[bold]{name}[/]  {benchmark.__doc__}")
        return
    unknown = [name for name in names or () if name not in BENCHMARKS]
    if unknown or scale not in SCALES:
        raise typer.BadParameter(f"benchmarks: {', '.join(BENCHMARKS)}; scales: {', '.join(SCALES)}")
    # The default would leave the database behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failures = run(names or list(BENCHMARKS), scale, json, charts, console)
    raise typer.Exit(1 if failures else 0)


def run(names: list[str], scale: str, json: Path, charts: Path, console: Console) -> dict[str, str]:
    """Run `names` one after the other; returns the failed ones with reasons. Results are written after each, so none is lost."""
    about, results, failures = machine(), list[Result](), dict[str, str]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        steps = Steps(console, progress)
        steps.benchmark = "postgres"
        steps("a database in a temporary folder")
        with Ground(fsync=SCALES[scale].fsync) as ground:
            for steps.benchmark in names:
                began = time.monotonic()
                try:
                    result = BENCHMARKS[steps.benchmark](ground, SCALES[scale], steps)
                except Exception as error:
                    console.print_exception(max_frames=4)
                    failures[steps.benchmark] = f"{type(error).__name__}: {error}"
                else:
                    result.duration_s = time.monotonic() - began
                    results.append(result)
                    draw(result, charts)
                write_json(json, scale, about, results, failures)
                charts.mkdir(parents=True, exist_ok=True)
                (charts / "results.md").write_text(markdown(scale, about, results))
    console.print(measures_table(results), claims_table(results))
    console.print(f"Results: {json}\nCharts:  {charts}", highlight=False)
    for name, reason in failures.items():
        console.print(f"[red]{name} could not be carried out:[/] {reason}", highlight=False)
    return failures


if __name__ == "__main__":
    app()
