"""Faults, the control endpoint, mass data, and the server as a process."""

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from demo_commcare import MATERNAL, NUTRITION, serve_in_thread
from demo_commcare.records import json_bytes
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


def test_latency_of_each_row(fresh: Client) -> None:
    fresh.server.control.set_latency(0.0, per_row_s=0.01)
    for path in ("case/v2/", "form/v1/", "location/v1/"):
        started = time.monotonic()
        fresh.get(path, limit=12)
        assert time.monotonic() - started >= 0.12


def test_a_compressed_bomb_unpacks_to_much_valid_json(fresh: Client) -> None:
    fresh.server.control.fail("case", kind="bomb", megabytes=3)
    with fresh.http.stream("GET", f"/a/{MATERNAL}/api/case/v2/") as answer:
        packed = b"".join(answer.iter_raw())
    assert len(packed) < 30_000
    unpacked = gzip.decompress(packed)
    assert len(unpacked) > 3_000_000
    assert json.loads(unpacked)["cases"] == []


def test_the_world_changes_between_two_pages(fresh: Client) -> None:
    control = fresh.server.control
    first, second = fresh.server.truth(MATERNAL).cases[:2]
    order = {"action": "delete_case", "domain": MATERNAL, "case_id": first["case_id"]}
    control.before("/case/v2/", order, skip=1)
    control.before("/case/v2/", {"action": "set_switches", "drop_collection": True}, skip=2)
    everything = fresh.get("case/v2/", limit=5000).json()["matching_records"]
    assert fresh.get("case/v2/", limit=5000).json()["matching_records"] == everything - 1
    assert "cases" not in fresh.get("case/v2/").json()
    control.set_switches(drop_collection=False)
    assert fresh.get("case/v2/", limit=5000).json()["matching_records"] == everything - 1
    with pytest.raises(ValueError, match="unknown action"):
        control.before("x", {"action": "explode"})
    with pytest.raises(TypeError):
        control.before("x", {"action": "delete_case", "case": second["case_id"]})


def test_rules_count_the_requests_they_match(fresh: Client) -> None:
    control = fresh.server.control
    control.fail("/case/v2/", status=429, body="", headers={"Retry-After": "3600"}, skip=1)
    control.fail("/case/v2/", status=502, times=1)
    control.fail("/case/v2/", status=200, body="<html>down</html>", times=1)
    assert [fresh.get("case/v2/").status_code for _ in range(4)] == [502, 429, 200, 200]


def test_half_a_surrogate_pair_is_sent_as_an_escape(fresh: Client) -> None:
    case_id = fresh.server.control.create_case(MATERNAL, "mother", "half \ud83d", {})
    answer = fresh.get(f"case/v2/{case_id}")
    assert b"half \\ud83d" in answer.content
    assert fresh.walk(5000)[-1][-1]["case_name"] == "half \ud83d"


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


def test_a_mass_import_changes_every_nth_case() -> None:
    with serve_in_thread(cases=3000) as server:
        client = Client(server)
        before = {case["case_id"]: case for case in server.truth(MATERNAL).iter_cases()}
        newest = max(case["indexed_on"] for case in before.values())
        forms = server.truth(MATERNAL).form_count
        assert server.control.update_every_nth_case(MATERNAL, 2, {"ward": "W-99"}) == 1500
        assert server.truth(MATERNAL).form_count == forms + 2
        changed = [case for page in client.walk(400, **{"indexed_on.gt": newest}) for case in page]
        assert len(changed) == len({case["case_id"] for case in changed}) == 1500
        for case in changed:
            old = before[case["case_id"]]
            assert case["properties"] == {**old["properties"], "ward": "W-99"}
            assert case["date_opened"] == old["date_opened"]
        after = [case for page in client.walk(400) for case in page]
        assert {case["case_id"]: case for case in after} == {
            case["case_id"]: case for case in server.truth(MATERNAL).iter_cases()
        }
        assert len(after) == 3000


def test_a_reindex_in_one_instant_ties_everything() -> None:
    with serve_in_thread(cases=2107) as server:
        client = Client(server)
        before = {case["case_id"] for case in server.truth(MATERNAL).iter_cases()}
        server.control.reindex(MATERNAL, one_instant=True)
        pages = client.walk(300)
        cases = [case for page in pages for case in page]
        assert len({case["indexed_on"][:23] for case in cases}) == 1
        assert [case["case_id"] for case in cases] == sorted(before)
        forms = client.walk_forms(limit=1000, order_by="indexed_on", include_archived="1")
        assert len({form["indexed_on"][:23] for form in forms}) == 1


@pytest.mark.parametrize("count", [2_600, 60_000, 1_300_000, 7_000_000])
def test_instants_of_mass_documents_agree_with_their_texts(count: int) -> None:
    world = World(cases=count)
    for index in (world.projects[MATERNAL].cases, world.projects[MATERNAL].forms):
        view = index.view
        assert view is not None
        last = view.bulk.count - 1
        numbers = sorted(n for n in {0, 1, 63, 64, 65, 4095, 4096, last // 2, last - 1, last} if n <= last)
        texts = json.loads(b"[" + b"".join(index.render(numbers, "http://h"))[1:] + b"]")
        for number, document in zip(numbers, texts, strict=True):
            instant = datetime.fromisoformat(document["indexed_on"])
            assert instant.timestamp() * 1000 == view.bulk.indexed_ms(number)
            assert view.number(document.get("case_id") or document["id"]) == number
            assert json.loads(json_bytes(view.record(number).api("http://h"))) == document
        assert numbers == sorted(numbers, key=view.bulk.indexed_ms)


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
