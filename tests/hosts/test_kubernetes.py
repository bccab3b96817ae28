"""Runs as jobs of Kubernetes, by Dagster's own launcher, against a double of the API that runs each on a machine."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import yaml

from explorer.contract.names import PROVISIONING, PROVISIONING_OP
from tests.hosts.conftest import MOTHERS, ROOT, START_S, Installation, program
from tests.hosts.jobs import Jobs, served
from tests.hosts.machines import until

pytestmark = pytest.mark.timeout(600)
_PORT = 8001


@pytest.fixture(scope="module")
def jobs(place: Installation) -> Iterator[Jobs]:
    """The installation with the instance for Kubernetes, and without workers of Celery."""
    address = f"http://{place.broker}:{_PORT}"
    cluster: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": address}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    instance = yaml.safe_load((ROOT / "deploy" / "instance" / "kubernetes.yaml").read_text())
    for name in ("first", "second"):
        if "worker" in place.made[name].programs:
            place.made[name].kill("worker")
    control, daemon = place.made["control"], place.made["daemon"]
    config = control.home / "kubeconfig"
    config.write_text(yaml.safe_dump(cluster))
    instance["compute_logs"]["config"]["base_dir"] = str(control.home.parent / "compute_logs")
    instance["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(config)}
    place.given["DATA_EXPLORER_IMAGE"] = "data-explorer:1"
    daemon.kill("daemon")
    control.kill("web")
    control.kill("code")
    for machine in place.made.values():
        (machine.home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(instance))
    made = Jobs(
        [place.made["first"], place.made["second"]],
        lambda arguments: program(arguments[0], *arguments[1:]),
        place.environment,
    )
    place.demo.control.set_latency(0)
    with served(made, place.broker, _PORT):
        place.start("control")
        place.start("daemon")
        until(place.is_ready, START_S, "webserver, code and daemon")
        yield made


def test_a_run_is_a_job_that_a_pod_may_do(place: Installation, jobs: Jobs) -> None:
    run = place.launch(MOTHERS)
    place.reaches(run, "SUCCESS", within_s=180)
    _, job = jobs.made[f"dagster-run-{run}"]
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == "data-explorer:1"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each] == ["explorer-worker"]
    assert "EXPLORER_DATABASE_URL" not in str(job)
    assert pod["automountServiceAccountToken"] is False


def test_only_the_pod_that_makes_tenants_has_the_administrators_login(place: Installation, jobs: Jobs) -> None:
    """Here nobody asked for anything, so that there is nothing to do."""
    run = place.launch(None, PROVISIONING, {"ops": {PROVISIONING_OP: {"config": {"request": str(uuid4())}}}})
    place.reaches(run, "SUCCESS")
    _, job = jobs.made[f"dagster-run-{run}"]
    given = {each["name"]: each for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given["EXPLORER_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "explorer-admin"


def test_a_pod_that_is_killed_fails_its_run_and_a_cancelled_one_ends(place: Installation, jobs: Jobs) -> None:
    place.demo.control.set_latency(1.5)
    killed = place.launch(MOTHERS)
    place.reaches(killed, "STARTED")
    name = f"dagster-run-{killed}"
    jobs.made[name][0].kill(name)
    place.reaches(killed, "FAILURE", within_s=60)
    cancelled = place.launch(MOTHERS)
    place.reaches(cancelled, "STARTED")
    assert place.cancel(cancelled) == "TerminateRunSuccess"
    place.reaches(cancelled, "CANCELED", within_s=45)
    assert jobs.deleted == [f"dagster-run-{cancelled}"]
    place.demo.control.set_latency(0)
    healed = place.launch(MOTHERS)
    place.reaches(healed, "SUCCESS", within_s=180)
