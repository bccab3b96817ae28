"""Demo servers over real HTTP: one that is only read, and a fresh one for tests that change something."""

from collections.abc import Iterator

import httpx
import pytest

from demo_commcare import MATERNAL, RunningServer, serve_in_thread

# Without TLS contexts, because making one takes longer than most requests here.
PLAIN = httpx.Client(verify=False, trust_env=False, timeout=60)


class Client:
    """An authenticated client; `get("case/v2/", limit=5)` reads from the maternal project space."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, headers=server.headers, verify=False, trust_env=False, timeout=60)

    def get(self, resource: str, domain: str = MATERNAL, **params: object) -> httpx.Response:
        return self.http.get(f"/a/{domain}/api/{resource}", params=params)

    def objects(self, resource: str, domain: str = MATERNAL, **params: object) -> list[dict]:
        answer = self.get(resource, domain, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()["objects"]

    def walk(self, limit: int = 100, domain: str = MATERNAL, **params: object) -> list[list[dict]]:
        """All pages of case v2."""
        answer = self.get("case/v2/", domain, limit=limit, **params).json()
        pages = [answer["cases"]]
        while "next" in answer:
            assert len(pages) < 1000
            answer = self.http.get(answer["next"]).json()
            pages.append(answer["cases"])
        return pages

    def walk_forms(self, limit: int = 200, **params: object) -> list[dict]:
        """All forms by offset."""
        found, offset = [], 0
        while True:
            answer = self.get("form/v1/", limit=limit, offset=offset, **params).json()
            found += answer["objects"]
            if answer["meta"]["next"] is None:
                return found
            offset += limit


@pytest.fixture(scope="package")
def shared() -> Iterator[Client]:
    with serve_in_thread() as server:
        yield Client(server)


@pytest.fixture
def fresh() -> Iterator[Client]:
    with serve_in_thread(control_token="control-token") as server:
        yield Client(server)
