"""An installation over machines: database, broker and CommCare here; code server with webserver, daemon and two workers there."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import yaml
from cryptography.fernet import Fernet

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from explorer.catalog import ApiKeyCredential, Catalog
from explorer.contract.names import TENANT_PARTITIONS
from explorer.core.settings import Settings, get_settings
from explorer.installation import prepare
from explorer.postgres.connections import Connections, Login
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.state import read_record
from explorer.providers import provider_named
from explorer.tenants import add_tenant
from tests.conftest import throwaway_home
from tests.hosts.machines import Machine, machines, until

ROOT = Path(__file__).parents[2]
MOTHERS, CHILDREN = "hosts:maternal", "hosts:nutrition"
TOKEN = "hosts-token-" + secrets.token_hex(16)
_FORWARD = Path(__file__).with_name("forward.py")
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")
# Everything is started at once on two cores.
START_S = 240.0
_LAUNCH = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_CANCEL = """mutation($id: String!, $policy: TerminateRunPolicy) { terminateRun(runId: $id, terminatePolicy: $policy) {
  __typename ... on PythonError { message } } }"""
_WORKER = [
    "-A", "explorer_dagster.launch.celery_worker", "worker", "--queues", "dagster", "--concurrency", "1",
    "--max-tasks-per-child", "1", "--loglevel", "info",
]  # fmt: skip


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def program(name: str, *arguments: str) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts"), name)), *arguments]


@dataclass
class Installation:
    """`given`: the settings of every process of Dagster. `database`, `broker`: addresses."""

    made: dict[str, Machine]
    database: str
    broker: str
    demo: RunningServer
    given: dict[str, str] = field(repr=False)
    admin_url: str = field(repr=False)
    instance: dg.DagsterInstance | None = None
    connections: Connections | None = field(default=None, repr=False)

    def environment(self, machine: Machine, **more: str) -> dict[str, str]:
        """Of a process on a machine: nothing of this one but where programs are."""
        return {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(machine.home), "LANG": "C.UTF-8",
            "DAGSTER_HOME": str(machine.home / "dagster"), "EXPLORER_HOME": str(machine.home / "explorer"),
            "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", **self.given, **more,
        }  # fmt: skip

    def start(self, name: str) -> None:
        """Start what the machine of this name is for."""
        machine = self.made[name]
        workspace = str(machine.home / "dagster" / "workspace.yaml")
        if name == "control":
            machine.start("code", program(
                "dagster", "api", "grpc", "--module-name", "explorer_dagster.definitions", "--host", "0.0.0.0",
                "--port", "4000", "--location-name", "explorer",
            ), self.environment(machine))  # fmt: skip
            machine.start("web", python(
                "-m", "explorer_dagster.webserver", "--host", "0.0.0.0", "--port", "3000", "-w", workspace,
            ), self.environment(machine, EXPLORER_DAGSTER_TOKEN=TOKEN, EXPLORER_DAGSTER_URL=self.url))  # fmt: skip
        elif name == "daemon":
            command = program("dagster-daemon", "run", "-w", workspace, "--log-level", "warning")
            machine.start("daemon", command, self.environment(machine))
        else:
            machine.start("worker", program("celery", *_WORKER), self.environment(machine))

    @property
    def url(self) -> str:
        return f"http://{self.made['control'].address}:3000"

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, headers={"X-Explorer-Token": TOKEN},
            timeout=60, trust_env=False, verify=False,
        )  # fmt: skip
        return dict(answer.json()["data"])

    def is_ready(self) -> bool:
        query = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } }
          instance { daemonHealth { allDaemonStatuses { required healthy } } } }"""
        try:
            told = self.graphql(query)
        except (httpx.HTTPError, ValueError):
            return False
        entries = told["workspaceOrError"].get("locationEntries", [])
        loaded = [each["locationOrLoadError"]["__typename"] for each in entries if each["locationOrLoadError"]]
        daemons = told["instance"]["daemonHealth"]["allDaemonStatuses"]
        return loaded == ["RepositoryLocation"] and all(each["healthy"] for each in daemons if each["required"])

    def launch(self, tenant: str | None, job: str = "commcare_sync", config: dict[str, Any] | None = None) -> str:
        """The id of a new run, of the tenant or of nobody."""
        selector = {
            "repositoryLocationName": "explorer",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        tags = [{"key": "dagster/partition", "value": tenant}] if tenant else []
        parameters = {"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": config or {}}
        told = self.graphql(_LAUNCH, p=parameters)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def cancel(self, run: str, policy: str = "SAFE_TERMINATE") -> str:
        """What Dagster answers. Its UI cancels a run that has not begun by the policy `MARK_AS_CANCELED_IMMEDIATELY` alone."""
        return str(self.graphql(_CANCEL, id=run, policy=policy)["terminateRun"]["__typename"])

    def status(self, run: str) -> str:
        assert self.instance is not None
        found = self.instance.get_run_by_id(run)
        assert found is not None
        return found.status.value

    def reaches(self, run: str, *states: str, within_s: float = 120.0) -> float:
        """Wait until the run is in one of these states; the seconds that it took."""
        took = until(lambda: self.status(run) in (*states, *FINISHED), within_s, f"run {run} in {states}")
        assert self.status(run) in states, self.told(run)
        return took

    def told(self, run: str) -> str:
        assert self.instance is not None
        return "\n".join(record.message for record in self.instance.all_logs(run))

    def worker_of(self, *runs: str) -> list[str]:
        """The machines whose workers say that they have these runs, in their order; fewer when nobody says so of one."""
        launcher: Any = self.instance.run_launcher if self.instance else None
        active = launcher.celery.control.inspect(timeout=3).active() or {}
        return [
            host.partition("@")[2]
            for run in runs
            for host, tasks in active.items()
            for task in tasks
            if run in str(task)
        ]


@contextmanager
def _here(stack: ExitStack, command: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("hosts")
    monkeypatch = pytest.MonkeyPatch()
    with ExitStack() as stack:
        home = stack.enter_context(throwaway_home())
        postgres = EmbeddedPostgres(home, fsync=False).start()
        demo = stack.enter_context(serve_in_thread(cases=60))
        source_port = int(demo.url.rpartition(":")[2])
        made, (database, broker, source) = stack.enter_context(machines(folder, "control", "daemon", "first", "second"))
        for address, port, to in ((database, 5432, postgres.port), (source, source_port, source_port)):
            command = python(str(_FORWARD), address, str(port), "127.0.0.1", str(to))
            stack.enter_context(_here(stack, command, folder / f"forward-{port}.log"))
        redis = ["redis-server", "--bind", broker, "--port", "6379", "--save", "", "--protected-mode", "no"]
        stack.enter_context(_here(stack, redis, folder / "redis.log"))
        record = read_record(home)
        assert record is not None
        admin = Login(database, 5432, "postgres", "postgres", record.password)
        logins = {
            "CATALOG_URL": admin.to(user="explorer_service", password=secrets.token_hex(16), dbname="explorer"),
            "CATALOG_OWNER_URL": admin.to(user="explorer_catalog", password=secrets.token_hex(16), dbname="explorer"),
            "DAGSTER_DATABASE_URL": admin.to(user="dagster", password=secrets.token_hex(16), dbname="dagster"),
        }
        urls = {f"EXPLORER_{name}": login.sqlalchemy_url() for name, login in logins.items()}
        given = {
            **{name: url for name, url in urls.items() if name != "EXPLORER_CATALOG_OWNER_URL"},
            "EXPLORER_SECRET_KEYS": Fernet.generate_key().decode(),
            "EXPLORER_CELERY_BROKER_URL": f"redis://{broker}:6379/0",
            "EXPLORER_PROJECT_DIR": str(ROOT),
        }
        place = Installation(made, database, broker, demo, given, admin.sqlalchemy_url())
        _set_up(place, urls["EXPLORER_CATALOG_OWNER_URL"], folder)
        for name, value in {**given, "EXPLORER_DATABASE_URL": place.admin_url, "EXPLORER_HOME": str(folder)}.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        stack.callback(get_settings.cache_clear)
        stack.callback(monkeypatch.undo)
        for name, machine in made.items():
            # Credentials are sent in the clear on the way to this machine alone.
            forward = python(str(_FORWARD), "127.0.0.1", str(source_port), source, str(source_port))
            machine.start("forward", forward, place.environment(machine))
            place.start(name)
        settings = Settings(_env_file=None)
        place.connections = prepare(settings)
        with Catalog.open(settings) as catalog:
            for key, domain in ((MOTHERS, MATERNAL), (CHILDREN, NUTRITION)):
                add_tenant(
                    settings, catalog, place.connections, provider_named("commcare"), key=key,
                    server=demo.url, external_id=domain,
                    credential=ApiKeyCredential(demo.username, demo.api_key),
                )  # fmt: skip
        place.instance = stack.enter_context(dg.DagsterInstance.from_config(str(made["control"].home / "dagster")))
        place.instance.add_dynamic_partitions(TENANT_PARTITIONS, [MOTHERS, CHILDREN])
        until(place.is_ready, START_S, "webserver, code and daemon")
        for name in ("first", "second"):
            until(lambda name=name: "ready." in made[name].log("worker"), START_S, f"worker {name}")
        yield place


def _set_up(place: Installation, owner_url: str, folder: Path) -> None:
    """What the image has (dbt's reading of the project), each machine's instance, and the database, set up from one of them."""
    instance = yaml.safe_load((ROOT / "deploy" / "instance" / "celery.yaml").read_text())
    instance["compute_logs"]["config"]["base_dir"] = str(folder / "compute_logs")
    server = {"host": place.made["control"].address, "port": 4000, "location_name": "explorer"}
    control = place.made["control"]
    environment = place.environment(control, EXPLORER_HOME=str(folder / "baked"))
    subprocess.run(python("-c", "import explorer_dagster.definitions"), env=environment, check=True, timeout=240)
    for machine in place.made.values():
        (machine.home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(instance))
        workspace = {"load_from": [{"grpc_server": server}]}
        (machine.home / "dagster" / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        shutil.copytree(folder / "baked" / "dbt", machine.home / "explorer" / "dbt")
    administrator = {"EXPLORER_DATABASE_URL": place.admin_url, "EXPLORER_CATALOG_OWNER_URL": owner_url}
    done = subprocess.run(
        control.command(python("-m", "explorer_cli", "db", "upgrade", "--json")),
        env=place.environment(control, **administrator), cwd=control.home, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
