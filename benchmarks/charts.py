"""Charts of the results as SVG files; equal numbers give equal files."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Result, number

OURS, OTHER = "#1f6feb", "#8c959f"
mpl.rcParams.update(
    {
        "svg.hashsalt": "data-explorer",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def draw(result: Result, folder: Path) -> Path:
    """Write `folder/<benchmark>.svg`."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    CHARTS.get(result.benchmark, _bars)(result, figure.subplots())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.benchmark}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _rates(result: Result, axes: Axes) -> None:
    """Horizontal bars of all measures in rows/s, ours first."""
    measures = [measure for measure in result.measures if "rows/s" in measure.name][::-1]
    _bar(axes, {measure.name.partition(" (")[0]: measure.median for measure in measures})
    axes.set_xlabel("rows/s, median")
    title = {"full_load": "Full load of cases and forms over HTTP", "merge": "Sync after 10 % of the cases changed"}
    axes.set_title(title[result.benchmark])


def _bars(result: Result, axes: Axes) -> None:
    _bar(axes, {measure.name: measure.median for measure in result.measures[::-1]})
    axes.set_title(result.benchmark.replace("_", " ").capitalize())


def _nothing_new(result: Result, axes: Axes) -> None:
    _bar(axes, {measure.name.partition(", per")[0]: measure.median for measure in result.measures[::-1]})
    axes.axvline(300, color="black", linestyle=":", linewidth=1)
    axes.set_xlabel("ms per resource, median; dotted: the goal for own work")
    axes.set_title("Sync when nothing changed")


def _bar(axes: Axes, values: dict[str, float]) -> None:
    colours = [OURS if name.startswith(("ours", "whole", "own")) else OTHER for name in values]
    bars = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(bars, labels=[number(value) for value in values.values()], padding=4)
    axes.margins(x=0.15)


def _memory(result: Result, axes: Axes) -> None:
    points = result.series["resident memory"]
    start = points[0][1]
    axes.plot([x for x, _ in points], [y for _, y in points], color=OURS)
    axes.axhline(start, color=OTHER, linestyle="--", linewidth=1)
    axes.axhline(start + 250, color="black", linestyle=":", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("resident MB")
    axes.set_title(f"Memory while {result.facts['rows']:,} cases load (dashed: start, dotted: goal)")


def _latency(result: Result, axes: Axes) -> None:
    for colour, (name, points) in zip((OURS, OTHER), result.series.items(), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colour, label=name)
        ours = result.measure(f"ours, {name.partition(' per')[0]} (rows/s)").median
        axes.axhline(ours, color=colour, linestyle=":", linewidth=1, label=f"ours, {name.partition(' per')[0]}")
    axes.set_xscale("log", base=2)
    axes.set_xticks([x for x, _ in next(iter(result.series.values()))])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("windows walked at a time")
    axes.set_ylabel("rows/s")
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("First load from a server that takes its time")


CHARTS: dict[str, Callable[[Result, Axes], None]] = {
    "full_load": _rates,
    "merge": _rates,
    "nothing_new": _nothing_new,
    "memory": _memory,
    "latency": _latency,
}
