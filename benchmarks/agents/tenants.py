"""The benchmark of many tenants: how long a round of their schedule takes, with and without news.

The whole platform as `explorer up` starts it. One project space is synced; its tenant is then copied in SQL, with all tables and
bookkeeping, so that hours of first syncs are not part of it. All turns come at the same minute, which is the hardest
round; a round ends when all were taken and no run is left.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from benchmarks.agents.meanwhile import asked, p95
from benchmarks.agents.small_tenant import Platform, platform_of
from benchmarks.ground import ROOT, Ground, Server, resident_mb
from benchmarks.loading import Scale, Step, WrongRows
from benchmarks.results import Claim, Measure, Result
from explorer.catalog import ApiKeyCredential, Catalog, Tenant
from explorer.contract.bookkeeping.definitions import BUILDS
from explorer.contract.schemas import SCHEMA_KINDS, TenantSchemas
from explorer.core.settings import Settings
from explorer.postgres.connections import Connection, Connections, load_connections
from explorer.providers.base import Access
from explorer.providers.commcare.provider import CommCare
from explorer.tenants import add_tenant

_TENANTS = {"tiny": 4, "small": 100, "full": 1000}
_ROUNDS = {"tiny": 1, "small": 3, "full": 3}
_QUIET_S = {"tiny": 3.0, "small": 20.0, "full": 20.0}
_PIPELINE = "commcare_sync"
# A turn in the year: rounds begin when the benchmark says so.
_CRON = "0 0 1 1 *"
_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
_LIMIT_S = 3600.0
_POLL_S = 0.5
_UNFINISHED = "('NOT_STARTED', 'QUEUED', 'STARTING', 'STARTED', 'CANCELING')"


class _Unasked(CommCare):
    """A provider that accepts every tenant without asking a server."""

    def verify_access(self, *_: Any, **__: Any) -> Access:
        return Access("user@example.org", "Benchmark")


def tenants(ground: Ground, scale: Scale, step: Step) -> Result:
    """Rounds of the schedule over all tenants: without news, and with news at every twentieth."""
    count = _TENANTS[scale.name]
    result = Result("tenants", facts={"tenants": count, "changed": -(-count // 20)})
    idle, news = Measure("a round without news (s)"), Measure("a round with 5 % changed (s)")
    cpu, idle_cpu = Measure("CPU of a round with 5 % changed (s)"), Measure("CPU of a round without news (s)")
    connections, memory = Measure("connections after a round"), Measure("memory after a round (MB)")
    cores, page = (
        Measure("share of the cores, a round an hour"),
        Measure("partitions of a raw table in the UI, longest (s)"),
    )
    quiet, busy = Measure("query, quiet, p95 (s)"), Measure("query during a round, p95 (s)")
    result.measures += [idle, news, idle_cpu, cpu, cores, connections, memory, quiet, busy, page]
    project = _project(ground.files / "project")
    with ground.server(1) as server, platform_of(ground, EXPLORER_PROJECT_DIR=str(project)) as platform:
        names = server.order("spaces", count=count)
        field = _Field(platform, server)
        step("the tenant that is copied")
        field.first(names[0])
        shown = step(f"{count - 1} copies")
        for number, name in enumerate(names[1:], 1):
            field.copy(name)
            shown(number)
        step("partitions")
        field.registered(count)
        step("queries while nothing runs")
        with asked(platform, field.asked) as noticed:
            time.sleep(_QUIET_S[scale.name])
        quiet.samples.append(p95(noticed.queries))
        for number in range(_ROUNDS[scale.name]):
            # A round waits for the minute; one is enough to see that all works.
            rounds = ((idle, idle_cpu, False), (news, cpu, True))[scale.name == "tiny" :]
            for measure, used, has_news in rounds:
                step(f"round {number + 1}, {'5 % changed' if has_news else 'without news'}")
                if has_news:
                    server.order("news")
                before = field.cpu_s()
                with asked(platform, field.asked) as noticed:
                    measure.samples.append(field.round(count))
                used.samples.append(field.cpu_s() - before)
                busy.samples.append(p95(noticed.queries))
                page.samples.append(max(noticed.pages))
            connections.samples.append(field.connections())
            memory.samples.append(field.memory_mb())
        result.facts["runs"] = field.runs()
    # The goals are those of 1,000 tenants; fewer tenants have as much less time, and the minute's tick.
    part = count / 1000
    goals = ((idle, "without news", max(60 * part, 15)), (news, "with 5 % changed", max(300 * part, 45)))
    # A round an hour.
    cores.samples = [one / 3600 / (os.cpu_count() or 1) for one in (*idle_cpu.samples, *cpu.samples)]
    result.measures = [measure for measure in result.measures if measure.samples]
    result.claims += [
        Claim(f"a round {what}, median", measure.median, goal, "at most", "s")
        for measure, what, goal in goals
        if measure.samples
    ] + [
        Claim("of the cores, one such round an hour, the most", max(cores.samples), 0.5, "at most"),
        Claim("memory after the last round to that after the first", memory.samples[-1] / memory.samples[0], 1.1, "at most"),
        Claim("connections after the last round to those after the first", connections.samples[-1] / connections.samples[0], 1.1,
              "at most"),
        Claim("query during a round to quiet, p95, the most", max(busy.samples) / quiet.median, 2, "at most"),
        Claim("partitions of a raw table in the UI, the longest", max(page.samples), 2, "at most", "s"),
    ]  # fmt: skip
    return result


def _project(folder: Path) -> Path:
    """The project with a schedule that runs, whose turns the benchmark makes come."""
    folder.mkdir()
    for name in ("dagster.yaml", "workspace.yaml", "dbt_project"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "pipelines", folder / "pipelines")
    file = folder / "pipelines" / f"{_PIPELINE}.yml"
    text = file.read_text(encoding="utf-8")
    changed = text.replace('cron: "0 */6 * * *"', f'cron: "{_CRON}"\n  spread_minutes: 0', 1)
    changed = changed.replace("default_status: stopped", "default_status: running", 1)
    if changed.count(_CRON) != 1 or "running" not in changed:
        raise WrongRows("the pipeline's schedule has another form than the benchmark expects")
    file.write_text(changed, encoding="utf-8")
    return folder


class _Field:
    """The tenants of the platform."""

    def __init__(self, platform: Platform, server: Server) -> None:
        self._platform, self._server = platform, server
        self._settings = Settings(_env_file=None, home=platform.home, database_url=None)
        self._connections: Connections = load_connections(self._settings)
        self._catalog = Catalog.open(self._settings)
        self._source: TenantSchemas
        # Whose tables are asked meanwhile.
        self.asked = ""

    def first(self, name: str) -> None:
        """The tenant that is synced and then copied."""
        tenant = self._added(name)
        self.asked = tenant.key
        self._platform.command("sync", tenant.key, "--wait", "--json")
        self._source = TenantSchemas(self._catalog.schemas.get(tenant).prefix)
        self._follow(tenant)

    def copy(self, name: str) -> None:
        """Another tenant with the same tables, rows and bookkeeping."""
        tenant = self._added(name)
        with self._admin() as admin:
            _copy(admin, self._source, TenantSchemas(self._catalog.schemas.get(tenant).prefix))
        self._follow(tenant)

    def registered(self, count: int) -> None:
        """Wait until all tenants are partitions."""
        query = "SELECT count(*) FROM dynamic_partitions WHERE partitions_def_name = 'tenants'"
        deadline = time.monotonic() + _LIMIT_S
        while self._dagster(query) < count:
            if time.monotonic() > deadline:
                raise WrongRows("the tenants never became partitions")
            time.sleep(_POLL_S)

    def round(self, count: int) -> float:
        """Let all turns come; returns the seconds from the tick to the end of the last run."""
        with self._admin() as admin:
            admin.execute("UPDATE catalog.syncs SET followed_at = %s", [_LONG_AGO])
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            with self._admin() as admin:
                row = admin.execute(
                    "SELECT count(*) FILTER (WHERE followed_at > %s), min(followed_at) FILTER (WHERE followed_at > %s),"
                    " count(*) FILTER (WHERE failures > 0) FROM catalog.syncs", [_LONG_AGO, _LONG_AGO]
                ).fetchone()  # fmt: skip
            taken, began, failed = row or (0, None, 0)
            if failed:
                raise WrongRows(f"{failed} tenants failed")
            if taken == count and not self._dagster(f"SELECT count(*) FROM runs WHERE status IN {_UNFINISHED}"):  # noqa: S608
                return float((datetime.now(UTC) - began).total_seconds())
        raise WrongRows("the round did not end")

    def runs(self) -> int:
        """Runs so far, with that of the first sync."""
        return self._dagster("SELECT count(*) FROM runs")

    def connections(self) -> float:
        """Open sessions of the database, without this program's."""
        with self._admin() as admin:
            row = admin.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
        return float(row[0]) if row else 0.0

    def cpu_s(self) -> float:
        """CPU seconds of the platform and its database so far, with those of processes that have ended."""
        ticks = os.sysconf("SC_CLK_TCK")
        return sum(sum(map(int, stat[11:15])) for stat in self._processes().values()) / ticks

    def memory_mb(self) -> float:
        """Resident memory of all of them; what they share counts for each."""
        return sum(map(resident_mb, self._processes()))

    def _processes(self) -> dict[int, list[str]]:
        """The platform's processes with the fields of /proc/PID/stat after the name: those under its supervisor."""
        found: dict[int, list[str]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    found[int(entry.name)] = (entry / "stat").read_text().rpartition(") ")[2].split()
                except OSError:
                    continue
        wanted = {json.loads((self._platform.home / "run" / "state.json").read_text())["supervisor"]["pid"]}
        postmaster = self._platform.home / "postgres" / "data" / "postmaster.pid"
        if postmaster.exists():
            wanted.add(int(postmaster.read_text().split()[0]))
        size = 0
        while len(wanted) != size:
            size = len(wanted)
            wanted |= {pid for pid, stat in found.items() if int(stat[1]) in wanted}
        return {pid: stat for pid, stat in found.items() if pid in wanted}

    def _added(self, name: str) -> Tenant:
        address = self._server.address
        return add_tenant(
            self._settings, self._catalog, self._connections, _Unasked(), key=f"bench:{name}", server=address["url"],
            external_id=name, credential=ApiKeyCredential(address["username"], address["api_key"]),
        )  # fmt: skip

    def _follow(self, tenant: Tenant) -> None:
        """No turn is due before the benchmark says so, and then the year's one is."""
        self._catalog.syncs.follow(_PIPELINE, [tenant.id], datetime.now(UTC))
        with self._admin() as admin:
            admin.execute("UPDATE catalog.tenants SET created_at = %s WHERE id = %s", [_LONG_AGO, tenant.id])

    def _dagster(self, query: str) -> int:
        with self._connections.dagster.connect(autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _admin(self) -> Iterator[Connection]:
        with self._connections.admin.connect(autocommit=True) as admin:
            yield admin


def _copy(admin: Connection, source: TenantSchemas, target: TenantSchemas) -> None:
    """Make the target's relations like the source's, with their rows, as its loader's own."""
    owner = sql.Identifier(target.rw)
    relations = admin.execute(
        "SELECT n.nspname, c.relname, c.relkind::text, pg_get_viewdef(c.oid) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'S', 'v')"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))"
        " ORDER BY array_position(ARRAY['S', 'r', 'v'], c.relkind::text), c.oid",
        [list(source.schemas)],
    ).fetchall()
    kinds = {source.schema(kind): target.schema(kind) for kind in SCHEMA_KINDS}
    parts: list[sql.Composable] = []
    for schema, name, kind, definition in relations:
        place, of = sql.Identifier(kinds[schema], name), sql.Identifier(schema, name)
        if kind == "S":
            parts += [
                sql.SQL("CREATE SEQUENCE {}").format(place),
                sql.SQL("SELECT setval({}, last_value) FROM {}").format(sql.Literal(place.as_string(admin)), of),
                sql.SQL("ALTER SEQUENCE {} OWNER TO {}").format(place, owner),
            ]
        elif kind == "r":
            parts += [
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(place, of),
                sql.SQL("INSERT INTO {} SELECT * FROM {}").format(place, of),
                sql.SQL("ALTER TABLE {} OWNER TO {}").format(place, owner),
            ]
        else:
            text = definition.replace(source.prefix, target.prefix)
            parts += [
                sql.SQL("CREATE VIEW {} AS {}").format(place, sql.SQL(text.rstrip("; \n"))),
                sql.SQL("ALTER VIEW {} OWNER TO {}").format(place, owner),
            ]
    with admin.transaction():
        admin.execute(sql.SQL("; ").join(parts))
        # What was built is known by the identity of its table.
        admin.execute(
            sql.SQL(
                "UPDATE {} b SET relation = c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = ANY(%s) AND c.relname = b.name"
            ).format(sql.Identifier(target.staging, BUILDS)),
            [[target.staging, target.marts]],
        )
