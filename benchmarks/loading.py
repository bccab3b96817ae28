"""The benchmarks of loading: speed against COPY, commcare-export and serial requests; memory; a sync without changes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import exporter
from benchmarks.ground import Ground, Prepared, Server, Tenant, resident_mb
from benchmarks.load_job import pipeline_with
from benchmarks.results import Claim, Measure, Result, ratio

Step = Callable[[str], Callable[[int], None]]
BULK = {"cases": "raw_cases", "forms": "raw_forms"}
PAGE = 1000
CHANGED_EVERY = 10
# The start of the demo's computed history: two years long, evenly spread.
HISTORY_BEGINS, HISTORY_LASTS = datetime(2022, 1, 3, 4, tzinfo=UTC), timedelta(days=730)


@dataclass(frozen=True)
class Scale:
    """The number of rows of each benchmark. `rounds`: how often each side is measured; `windows`: points of the latency curve."""

    name: str
    rounds: int
    full_rows: int
    export_rows: int
    merge_rows: int
    idle_rows: int
    memory_rows: int
    latency_rows: int
    windows: tuple[int, ...]
    latencies_s: tuple[float, ...] = (0.3, 0.05)
    fsync: bool = True


SCALES = {
    # For tests of the mechanism; its numbers mean nothing.
    "tiny": Scale("tiny", 1, 2_100, 0, 2_100, 2_100, 2_100, 2_100, (1,), (0.3,), fsync=False),
    "small": Scale("small", 3, 20_000, 2_000, 20_000, 5_000, 100_000, 20_000, (1, 2, 4, 8)),
    "full": Scale("full", 3, 200_000, 10_000, 500_000, 50_000, 2_000_000, 200_000, (1, 2, 4, 8, 16)),
}


class WrongRows(Exception):
    """Two sides did not move the same rows, so their times must not be compared."""


def full_load(ground: Ground, scale: Scale, step: Step) -> Result:
    """Cases and forms over HTTP into empty tables, against COPY alone of the same rows, and against commcare-export."""
    result = Result("full_load")
    with ground.server(scale.full_rows) as server, ground.tenant() as model:
        first = _load(ground, model, server, BULK, step("once before"))
        prepared = {table: ground.prepare(model, table) for table in BULK.values()}
        _same_rows(_loaded_rows(first), sum(file.rows for file in prepared.values()))
        sides = _FullLoad(ground, server, model, prepared, scale, step, result)
        sides.measure()
    result.facts |= {
        "rows": {table: file.rows for table, file in prepared.items()},
        "requests": {name: resource["requests"] for name, resource in first["resources"].items()},
    }
    return result


@dataclass
class _FullLoad:
    """The three sides of `full_load`. `model`: a tenant with the tables from which `prepared` was made."""

    ground: Ground
    server: Server
    model: Tenant
    prepared: dict[str, Prepared]
    scale: Scale
    step: Step
    result: Result

    def measure(self) -> None:
        """Measure all sides in turn. When commcare-export is not available it is left out, and the facts give the reason."""
        self.ours, self.copy, self.theirs, self.cpu, self.server_cpu = _measures(
            self.result,
            "ours (rows/s)",
            "COPY alone (rows/s)",
            "commcare-export (rows/s)",
            "own CPU (s)",
            "demo server's CPU (s)",
        )
        sides = [self._ours, self._copy]
        if self.scale.export_rows:
            try:
                self.step("commcare-export, installed into its own environment")
                exporter.install()
                sides.append(self._exporter)
            except exporter.ExporterFailed as error:
                self.result.facts["commcare_export"] = f"not measured: {error}"
        for number in range(self.scale.rounds):
            _in_turn(number, sides)
        self.result.claims.append(Claim("rate, of COPY alone", ratio(self.ours, self.copy), 0.75, "at least"))
        if self.theirs.samples:
            self.result.claims.append(Claim("rate, of commcare-export", ratio(self.ours, self.theirs), 40, "at least"))
        else:
            self.result.measures.remove(self.theirs)

    @property
    def _rows(self) -> int:
        return sum(file.rows for file in self.prepared.values())

    def _ours(self) -> None:
        with self.ground.tenant() as fresh:
            before_s = self.server.order("cpu_s")
            done = _load(self.ground, fresh, self.server, BULK, self.step(f"ours, {self._rows:,} rows"))
            self.server_cpu.samples.append(self.server.order("cpu_s") - before_s)
            _same_rows(self._rows, sum(self.ground.count(fresh, table) for table in BULK.values()))
        self.ours.samples.append(self._rows / done["wall_s"])
        self.cpu.samples.append(done["cpu_s"])

    def _copy(self) -> None:
        self.step("COPY alone")
        with self.ground.tenant() as fresh:
            done = self.ground.copy_alone(fresh, self.prepared, like=self.model)
        _same_rows(self._rows, done["rows"])
        self.copy.samples.append(self._rows / done["wall_s"])

    def _exporter(self) -> None:
        """Measure commcare-export on the older part of the rows: it is slow, and its rate does not depend on their number."""
        self.step(f"commcare-export, about {2 * self.scale.export_rows:,} rows")
        share = self.scale.export_rows / self.scale.full_rows
        done = exporter.export(self.ground, self.server, HISTORY_BEGINS + HISTORY_LASTS * share)
        if not done["cases"] or not done["forms"]:
            raise WrongRows(f"commcare-export brought {done['cases']:,} cases and {done['forms']:,} forms")
        self.theirs.samples.append((done["cases"] + done["forms"]) / done["wall_s"])
        self.result.facts["commcare_export"] = {"version": exporter.VERSION, **done}


def merge(ground: Ground, scale: Scale, step: Step) -> Result:
    """A sync after 10 % of the cases changed, against COPY alone of just the changed rows."""
    result = Result("merge")
    ours, copy = _measures(result, "ours (changed rows/s)", "COPY alone of the changed rows (rows/s)")
    for number in range(scale.rounds):
        with (
            # Other cases each round: the cursor's overlap reads the changes of the round before again.
            ground.server(scale.merge_rows) as server,
            ground.tenant() as tenant,
            ground.loader(tenant, server, ["cases"]) as loader,
        ):
            loader.go("first", step(f"{scale.merge_rows:,} rows, once before"))
            step("every tenth case is changed on the server")
            changed = int(server.order("change", every=CHANGED_EVERY, offset=number))
            ground.settle()
            done = loader.go(f"round-{number}", step(f"ours, {changed:,} changed rows"))
            prepared = ground.prepare(tenant, "raw_cases", f"round-{number}")
            _same_rows(changed, prepared.rows)
            ours.samples.append(changed / done["wall_s"])
            step("COPY alone of the same")
            with ground.tenant() as fresh:
                alone = ground.copy_alone(fresh, {"raw_cases": prepared}, like=tenant)
            copy.samples.append(changed / alone["wall_s"])
            _same_rows(scale.merge_rows, ground.count(tenant, "raw_cases"))
    result.facts |= {"rows": scale.merge_rows, "changed": changed}
    result.claims.append(Claim("rate on changed rows, of COPY alone", ratio(ours, copy), 0.28, "at least"))
    return result


def nothing_new(ground: Ground, scale: Scale, step: Step) -> Result:
    """A sync of all resources when nothing changed: its requests, and its own work beside bare requests of the same addresses."""
    result = Result("nothing_new")
    wall, cpu, bare = _measures(
        result, "whole sync, per resource (ms)", "own CPU, per resource (ms)", "the requests alone, per resource (ms)"
    )
    sources = pipeline_with({}).sources
    names = [source.name for source in sources]
    with (
        ground.server(scale.idle_rows) as server,
        ground.tenant() as tenant,
        ground.loader(tenant, server, names) as loader,
    ):
        loader.go("first", step(f"{scale.idle_rows:,} cases and forms, once before"))
        asked = len(server.order("requests"))
        loader.go("second", step("nothing new, once before"))
        with ground.requester(server, server.order("requests")[asked:]) as requester:
            for number in range(scale.rounds):
                done = loader.go(f"round-{number}", step("nothing new"))
                for measure, seconds in (
                    (wall, done["wall_s"]),
                    (cpu, done["cpu_s"]),
                    (bare, requester.go()["wall_s"]),
                ):
                    measure.samples.append(seconds * 1000 / len(names))
    reports = done["resources"]
    passes = {
        source.name: len(source.passes)
        for source in sources
        if reports[source.name]["status"] == "loaded" and source.for_each is None
    }
    most = max(reports[name]["requests"] / count for name, count in passes.items())
    own = Measure("own", [w - b for w, b in zip(wall.samples, bare.samples, strict=True)]).median
    result.claims += [
        Claim("requests per resource (mobile workers: per pass)", most, 1, "at most"),
        Claim("own work per resource (whole sync less the requests)", own, 20, "at most", "ms"),
    ]
    result.facts |= {
        "requests": {name: reports[name]["requests"] for name in names},
        "status": {name: reports[name]["status"] for name in names},
    }
    return result


def memory(ground: Ground, scale: Scale, step: Step) -> Result:
    """Resident memory of the loading process over a load of many cases, five times a second."""
    result = Result("memory")
    start, peak, growth, rate = _measures(
        result, "before the load, all imported (MB)", "peak (MB)", "growth after the first fifth (MB)", "ours (rows/s)"
    )
    with (
        ground.server(scale.memory_rows) as server,
        ground.tenant() as tenant,
        ground.loader(tenant, server, ["cases"]) as loader,
    ):
        before_mb = resident_mb(loader.pid)
        done, samples = loader.go_watched(step(f"{scale.memory_rows:,} cases"))
        _same_rows(scale.memory_rows, ground.count(tenant, "raw_cases"))
    highest = max((mb for _, mb in samples), default=before_mb)
    early = max((mb for second, mb in samples if second <= done["wall_s"] / 5), default=before_mb)
    start.samples.append(before_mb)
    peak.samples.append(highest)
    growth.samples.append(highest - early)
    rate.samples.append(scale.memory_rows / done["wall_s"])
    result.series["resident memory"] = [(0.0, before_mb), *samples]
    result.claims.append(Claim("peak above the process's start", highest - before_mb, 250, "at most", "MB"))
    result.facts["rows"] = scale.memory_rows
    return result


def latency(ground: Ground, scale: Scale, step: Step) -> Result:
    """First loads from a server that takes its time for each page: ours against a serial walk, and over the number of windows."""
    result = Result("latency")
    with ground.server(scale.latency_rows) as server:
        with ground.tenant() as tenant:
            _load(ground, tenant, server, ["cases"], step("once before"))
        for seconds in scale.latencies_s:
            server.order("latency", seconds=seconds)
            _measure_latency(ground, server, scale, step, result, seconds)
    serial, ours = (result.measure(f"{side}, 300 ms (rows/s)") for side in ("serial walk", "ours"))
    result.claims.append(Claim("first load at 300 ms per page, of the serial walk", ratio(ours, serial), 6, "at least"))
    result.facts["rows"] = scale.latency_rows
    return result


def _measure_latency(
    ground: Ground, server: Server, scale: Scale, step: Step, result: Result, latency_s: float
) -> None:
    name = f"{latency_s * 1000:.0f} ms"
    serial, ours = _measures(result, f"serial walk, {name} (rows/s)", f"ours, {name} (rows/s)")

    def rate(what: str, changes: dict[str, Any]) -> float:
        with ground.tenant() as fresh:
            done = _load(ground, fresh, server, ["cases"], step(f"{name} per page: {what}"), {"cases": changes})
            _same_rows(scale.latency_rows, ground.count(fresh, "raw_cases"))
        return scale.latency_rows / float(done["wall_s"])

    def pages_of_1000(windows: int) -> dict[str, Any]:
        return {"page_size": PAGE, "max_page_size": PAGE, "max_windows": windows}

    for number in range(scale.rounds):
        _in_turn(
            number,
            [
                lambda: serial.samples.append(rate("serial walk", pages_of_1000(1))),
                lambda: ours.samples.append(rate("ours", {})),
            ],
        )
    curve = [(1.0, serial.median)]
    curve += [(float(n), rate(f"{n} windows", pages_of_1000(n))) for n in scale.windows if n > 1]
    result.series[f"{name} per page of 1,000"] = curve


def _load(
    ground: Ground, tenant: Tenant, server: Server, resources: Iterable[str],
    on_progress: Callable[[int], None], changes: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    ground.settle()
    with ground.loader(tenant, server, list(resources), changes) as loader:
        return loader.go(on_progress=on_progress)


def _measures(result: Result, *names: str) -> list[Measure]:
    made = [Measure(name) for name in names]
    result.measures += made
    return made


def _in_turn(number: int, sides: list[Callable[[], None]]) -> None:
    """Measure all sides, each round another one first, because later ones find a warmer machine."""
    first = number % len(sides)
    for measure in sides[first:] + sides[:first]:
        measure()


def _loaded_rows(done: dict[str, Any]) -> int:
    return sum(resource["rows_landed"] for resource in done["resources"].values())


def _same_rows(expected: int, found: int) -> None:
    if expected != found:
        raise WrongRows(f"{expected:,} rows on one side, {found:,} on the other")


BENCHMARKS: dict[str, Callable[[Ground, Scale, Step], Result]] = {
    "full_load": full_load,
    "merge": merge,
    "nothing_new": nothing_new,
    "memory": memory,
    "latency": latency,
}
