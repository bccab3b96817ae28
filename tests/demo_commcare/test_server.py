"""Faults, the control endpoint, mass data, and the server as a process."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from demo_commcare import MATERNAL, NUTRITION, serve_in_thread
from demo_commcare.world import World
from tests.demo_commcare.conftest import PLAIN, Client


def test_error_pages_for_the_next_requests_only(fresh: Client) -> None:
    control = fresh.server.control
    control.fail("/case/v2/", times=2, skip=1, status=502)
    assert [fresh.get("case/v2/").status_code for _ in range(4)] == [200, 502, 502, 200]
    control.fail("form", status=503, body='{"a": 1}', headers={"Retry-After": "7"})
    answer = fresh.get("form/v1/")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"a": 1}, "7")
    control.fail("form")
    page = fresh.get("form/v1/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>500</h1>" in page.text


def test_truncated_json_is_complete_http(fresh: Client) -> None:
    fresh.server.control.fail("case", kind="truncated")
    answer = fresh.get("case/v2/")
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert fresh.get("case/v2/").json()["cases"]


def test_cut_connection_and_slow_body(fresh: Client) -> None:
    fresh.server.control.fail("case", kind="cut")
    with pytest.raises(httpx.RemoteProtocolError):
        fresh.get("case/v2/")
    fresh.server.control.fail("case", kind="slow", seconds=0.2)
    started = time.monotonic()
    assert fresh.get("case/v2/").json()["cases"]
    assert time.monotonic() - started >= 0.15


def test_latency_and_request_log(fresh: Client) -> None:
    fresh.server.control.set_latency(0.1)
    started = time.monotonic()
    fresh.get("user/v1/", limit=3)
    assert time.monotonic() - started >= 0.1
    seen = fresh.server.control.requests[-1]
    assert (seen.method, seen.path, seen.query, seen.status) == ("GET", f"/a/{MATERNAL}/api/user/v1/", "limit=3", 200)


def test_control_over_http_demands_the_token(fresh: Client) -> None:
    url, bearer = f"{fresh.server.url}/_demo/control", {"Authorization": "Bearer control-token"}
    case = fresh.server.truth(MATERNAL).cases[0]
    order = {"action": "update_case", "domain": MATERNAL, "case_id": case["case_id"], "properties": {"ward": "x"}}
    assert PLAIN.post(url, json=order, headers=fresh.server.headers).status_code == 401
    answer = PLAIN.post(url, json=order, headers=bearer)
    assert answer.status_code == 200
    assert fresh.get(f"form/v1/{answer.json()['result']}/").status_code == 200
    for bad in (
        {"action": "nothing"},
        {"action": "close_case", "domain": MATERNAL, "case_id": "none"},
        {},
        {"action": "fail", "x": 1},
    ):
        assert PLAIN.post(url, json=bad, headers=bearer).status_code == 400


def test_truth_over_http(fresh: Client) -> None:
    url, bearer = f"{fresh.server.url}/_demo/truth/{NUTRITION}/cases", {"Authorization": "Bearer control-token"}
    assert PLAIN.get(url).status_code == 401
    answer = PLAIN.get(url, headers=bearer).json()
    assert answer == {"count": fresh.server.truth(NUTRITION).case_count, "objects": fresh.server.truth(NUTRITION).cases}
    assert PLAIN.get(f"{url}?count_only=1", headers=bearer).json() == {"count": answer["count"]}


def test_no_control_without_a_token(shared: Client) -> None:
    assert shared.http.get(f"/_demo/truth/{NUTRITION}/cases").status_code == 404
    assert shared.http.post("/_demo/control", json={}).status_code == 404


def test_same_seed_same_world_other_seed_other_world() -> None:
    one, same, other = (World(seed).truth(MATERNAL) for seed in (5, 5, 6))
    assert one.cases == same.cases
    assert one.forms == same.forms
    assert {case["case_id"] for case in one.cases}.isdisjoint(case["case_id"] for case in other.cases)


def test_default_sizes_and_scaled_story() -> None:
    world = World()
    assert 300 <= world.truth(MATERNAL).case_count <= 500
    assert 850 <= world.truth(MATERNAL).form_count <= 1000
    assert 240 <= world.truth(NUTRITION).case_count <= 260
    assert 900 <= World(cases=1000).truth(MATERNAL).case_count <= 1100


@pytest.fixture(scope="module")
def mass() -> Iterator[Client]:
    with serve_in_thread(cases=2107) as server:
        yield Client(server)


def test_mass_data_are_the_truth(mass: Client) -> None:
    truth = mass.server.truth(MATERNAL)
    assert truth.case_count == 2107
    walked = [case for page in mass.walk(1000) for case in page]
    assert {case["case_id"]: case for case in walked} == {case["case_id"]: case for case in truth.iter_cases()}
    assert len(walked) == 2107
    forms = mass.walk_forms(limit=1000, include_archived="1", order_by="indexed_on")
    assert len({form["id"] for form in forms}) == truth.form_count == len(forms)
    links = {(row["form_id"], row["case_id"]) for row in truth.form_cases}
    assert {case for _, case in links} == {case["case_id"] for case in walked}


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"case_type": "mother"}, lambda case: case["case_type"] == "mother"),
        ({"closed": "true"}, lambda case: case["closed"]),
        ({"properties.village": "v03"}, lambda case: case["properties"].get("village") == "v03"),
        (
            {"indexed_on.gt": "2023-01-01", "case_type": "child"},
            lambda case: case["indexed_on"] >= "2023-01-02" and case["case_type"] == "child",
        ),
    ],
)
def test_mass_filters(mass: Client, params: dict, fits: Callable[[dict], bool]) -> None:
    expected = {case["case_id"] for case in mass.server.truth(MATERNAL).iter_cases() if fits(case)}
    pages = mass.walk(500, **params)
    found = [case["case_id"] for page in pages for case in page]
    assert len(found) == len(expected)
    assert set(found) == expected


def test_mass_documents_can_change() -> None:
    with serve_in_thread(cases=2107) as server:
        client = Client(server)
        first, second, third = client.get("case/v2/", limit=3).json()["cases"]
        form_id = client.objects("form/v1/", case_id=third["case_id"])[0]["id"]
        server.control.update_case(MATERNAL, first["case_id"], {"ward": "changed"})
        server.control.delete_case(MATERNAL, second["case_id"])
        server.control.archive_form(MATERNAL, form_id)
        cases = [case for page in client.walk(3000) for case in page]
        by_id = {case["case_id"]: case for case in cases}
        assert len(cases) == len(by_id) == 2105 == server.truth(MATERNAL).case_count
        assert cases[-1]["case_id"] == first["case_id"]
        assert by_id[first["case_id"]]["properties"] == {**first["properties"], "ward": "changed"}
        assert form_id not in {form["id"] for form in client.walk_forms(limit=1000)}
        server.control.reindex(MATERNAL)
        again = [case for page in client.walk(3000, **{"indexed_on.gt": cases[-1]["indexed_on"]}) for case in page]
        assert {case["case_id"] for case in again} == set(by_id)


def test_million_cases_start_and_page_from_any_place() -> None:
    world = World(cases=1_000_000)
    index = world.projects[MATERNAL].cases
    assert world.truth(MATERNAL).case_count == 1_000_000
    bulk = world.projects[MATERNAL].bulk
    assert bulk is not None
    case = index.get(bulk.case_id(777_777))
    assert case is not None
    [text] = index.render([777_777], "")
    assert json.loads(text[1:]) == case.api()


def test_process_writes_a_private_port_file_and_stops_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "demo.json"
    env = {**os.environ, "DEMO_COMMCARE_API_KEY": "a-key-of-the-test", "DEMO_COMMCARE_CONTROL_TOKEN": "a-token"}
    command = [sys.executable, "-m", "demo_commcare", "--port", "0", "--port-file", str(port_file)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not port_file.exists():
            assert process.poll() is None
            time.sleep(0.02)
        content = json.loads(port_file.read_text())
        assert stat.S_IMODE(port_file.stat().st_mode) == 0o600
        assert (content["pid"], content["api_key"], content["control_token"]) == (
            process.pid,
            "a-key-of-the-test",
            "a-token",
        )
        headers = {"Authorization": f"ApiKey {content['username']}:{content['api_key']}"}
        assert PLAIN.get(f"{content['url']}/api/identity/v1/", headers=headers).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
    assert b"a-key-of-the-test" not in output + errors
    assert not port_file.exists()


def test_taken_port_is_said_plainly(shared: Client) -> None:
    port = shared.server.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "demo_commcare", "--port", port], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "choose another --port" in done.stderr
