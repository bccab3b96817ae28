"""The real webserver behind its guard: no bytes, path or document changes anything without the token.

The canary is a partition: an executed mutation would add one.
"""

import codecs
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from explorer.catalog import migrate
from explorer.catalog.audit.log import AuditLog
from explorer.catalog.storage.database import Database
from tests.conftest import PgServer

DEFINITIONS = Path(__file__).parents[2] / "mcp_bridge" / "tiny_dagster" / "definitions.py"
TOKEN = "the-token-of-this-test"
METRICS = "the-token-of-metrics"
OWN = {"X-Explorer-Token": TOKEN}
JSON = "application/json"
ADD = (
    'mutation M { addDynamicPartition(partitionKey: "KEY", partitionsDefName: "tenants", repositorySelector: '
    '{repositoryName: "__repository__", repositoryLocationName: "explorer"}) { __typename } }'
)
QUERY = "query Q { version }"
LIST = (
    'query { assetNodeOrError(assetKey: {path: ["commcare", "app_structure"]}) { ... on AssetNode { partitionKeys } } }'
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, pg_server: PgServer) -> Iterator[str]:
    home = tmp_path_factory.mktemp("guarded")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (home / "workspace.yaml").write_text(
        f"load_from:\n  - python_file: {{relative_path: {DEFINITIONS}, location_name: explorer}}\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EXPLORER_")}
    environment |= {"DAGSTER_HOME": str(home), "EXPLORER_HOME": str(pg_server.home), "EXPLORER_DAGSTER_TOKEN": TOKEN}
    environment["EXPLORER_METRICS_TOKEN"] = METRICS
    command = [sys.executable, "-m", "explorer_dagster.webserver", "--port", "0", "-w", str(home / "workspace.yaml")]
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port-file", str(home / "port")], env=environment, cwd=home, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 120
        while not (home / "port").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield str(json.loads((home / "port").read_text())["url"])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def partitions(url: str) -> set[str]:
    answer = httpx.post(f"{url}/graphql", json={"query": LIST}, headers=OWN, trust_env=False, timeout=60)
    return set(answer.json()["data"]["assetNodeOrError"]["partitionKeys"])


def utf(name: str, mark: bytes = b"") -> Callable[[str], bytes]:
    return lambda text: mark + text.encode(name)


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-8": utf("utf-8"),
    "utf-8 with mark": utf("utf-8-sig"),
    "two marks": utf("utf-8-sig", codecs.BOM_UTF8),
    **{name: utf(name) for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-7")},
    "utf-16-be with mark": utf("utf-16-be", codecs.BOM_UTF16_BE),
    "utf-32-be with mark": utf("utf-32-be", codecs.BOM_UTF32_BE),
    "utf-16": utf("utf-16"),
    "utf-32": utf("utf-32"),
    "blanks in front": lambda text: b" \r\n\t" + text.encode(),
    "nul in front": lambda text: b"\0" + text.encode(),
    "latin-1 rest": lambda text: text.encode() + b"\xff",
    "escaped": lambda text: "".join(f"\\u{ord(c):04x}" if c.isalpha() else c for c in text).encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "deflate": lambda text: zlib.compress(text.encode()),
}
DOCUMENTS: dict[str, Callable[[str], str]] = {
    "plain": lambda add: json.dumps({"query": add}),
    "named among several": lambda add: json.dumps({"query": f"{QUERY} {add}", "operationName": "M"}),
    "other chosen": lambda add: json.dumps({"query": f"{add} {QUERY}", "operationName": "Q"}),
    "name twice": lambda add: json.dumps({"query": QUERY})[:-1] + ', "query": ' + json.dumps(add) + "}",
    "name twice, other way": lambda add: json.dumps({"query": add})[:-1] + ', "query": ' + json.dumps(QUERY) + "}",
    "batch": lambda add: json.dumps([{"query": QUERY}, {"query": add}]),
    "behind a fragment": lambda add: json.dumps({"query": f"fragment F on Query {{ version }} {add}"}),
    "mark in the document": lambda add: json.dumps({"query": "\ufeff" + add}),
    "comment in front": lambda add: json.dumps({"query": "# query\n" + add}),
    "alias": lambda add: json.dumps({"query": add.replace("addDynamicPartition", "version: addDynamicPartition")}),
    "persisted": lambda add: json.dumps({"query": add, "extensions": {"persistedQuery": {"version": 1}}}),
    "not JSON": lambda add: add,
    "form": lambda add: urllib.parse.urlencode({"query": add}),
    "multipart": lambda add: (
        f'--x\r\ncontent-disposition: form-data; name="operations"\r\n\r\n{json.dumps({"query": add})}\r\n--x--\r\n'
    ),
}
TYPES = (
    JSON,
    "application/json; charset=utf-16",
    "text/plain, application/json",
    "application/graphql",
    "application/graphql+json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "text/plain;x=application/json",
)
PATHS = (
    "/graphql",
    "/graphql/",
    "//graphql",
    "/GraphQL",
    "/x/../graphql",
    "/%67raphql",
    "/graphql?x=/server_info",
    "/;/graphql",
)


def requests(add: str) -> Iterator[httpx.Request]:
    """Each encoding with each document; then each type and each path with some of them; then the mutation in the address."""
    for (name, encode), document in product(ENCODINGS.items(), DOCUMENTS.values()):
        coding = {"content-encoding": name} if name in ("gzip", "deflate") else {}
        yield httpx.Request("POST", "/graphql", content=encode(document(add)), headers={"content-type": JSON, **coding})
    for (name, document), kind in product(DOCUMENTS.items(), TYPES):
        content = document(add) if name != "plain" or kind == JSON else add
        yield httpx.Request("POST", "/graphql", content=content, headers={"content-type": kind})
    for path, method in product(PATHS, ("POST", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "QUERY")):
        headers = {"content-type": JSON}
        yield httpx.Request(method, path, content=DOCUMENTS["plain"](add), headers=headers)
        joint = "&" if "?" in path else "?"
        for query in (f"query={urllib.parse.quote(add)}", f"query={{version}}&query={urllib.parse.quote(add)}"):
            yield httpx.Request(method, f"{path}{joint}{query}", content=b"x", headers={"content-type": "text/plain"})
            yield httpx.Request(method, f"{path}{joint}{query}&operationName=M")
    # What the length says and what comes in pieces.
    yield httpx.Request("POST", "/graphql", content=iter([b'{"query": ', json.dumps(add).encode(), b"}"]),
                        headers={"content-type": JSON})  # fmt: skip


@pytest.mark.parametrize(
    ("given", "methods"), [({}, None), (OWN, ("GET", "HEAD", "OPTIONS"))], ids=["stranger", "link"]
)
def test_no_change_without_the_token_and_none_by_a_link(
    url: str, given: dict[str, str], methods: tuple[str, ...] | None
) -> None:
    before = partitions(url)
    asked = 0
    with httpx.Client(headers=given, trust_env=False, timeout=60) as client:
        for made in requests(ADD.replace("KEY", f"smuggled-{uuid4().hex[:8]}")):
            if methods is not None and made.method not in methods:
                continue
            content = made.stream if "transfer-encoding" in made.headers else made.content
            headers = {name: value for name, value in made.headers.items() if name not in ("host", "content-length")}
            address = f"{url}{made.url.raw_path.decode()}"
            answer = client.request(made.method, address, content=content, headers=headers)  # type: ignore[arg-type]
            assert answer.status_code < 500, (made, answer.text)
            asked += 1
    assert partitions(url) == before
    assert asked > (400 if methods is None else 100)


def test_with_the_token_changes_and_queries_pass_and_a_browser_enters_by_a_link(url: str, pg_server: PgServer) -> None:
    migrate(pg_server.connections)
    key = f"made-{uuid4().hex[:8]}"
    body = {"query": ADD.replace("KEY", key)}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        assert client.post("/graphql", json=body).status_code == 401
        assert client.get("/", headers={"accept": "text/html"}).status_code == 401
        # The token of programs is not that of metrics, nor the other way round.
        assert client.get("/metrics", headers=OWN).status_code == 401
        told = client.get("/metrics", headers={"Authorization": f"Bearer {METRICS}", "Host": "10.0.0.7:3000"})
        assert (told.status_code, "explorer_tenants " in told.text) == (200, True)
        assert client.get("/server_info", headers={"Authorization": f"Bearer {METRICS}"}).status_code == 401
        made = client.post("/graphql", json=body, headers=OWN)
        assert made.json()["data"]["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"
        assert key in partitions(url)
        asked = client.get("/graphql", params={"query": QUERY, "variables": '{"a": 1}'}, headers=OWN)
        assert asked.json()["data"]["version"]
        opened = client.get(client.post("/session/links", headers=OWN).json()["path"], follow_redirects=True)
        assert opened.status_code == 200
        assert TOKEN not in str(client.cookies)
        page = client.get("/graphql", headers={"accept": "text/html"})
        assert "graphiql" in page.text.lower()
        assert client.post("/graphql", json={"query": QUERY}).json()["data"]["version"]
    with closing(Database(pg_server.connections.service)) as database:
        written = [record.entry for record in AuditLog(database).read(actor="dagster:program")]
    assert (written[0].action, written[0].detail) == ("dagster_mutation", {"names": ["addDynamicPartition"]})
