"""Hosts made with the official TypeScript SDKs: from an address that they were given, and status 401, to an answer and back."""

from typing import Any

import pytest

from demo_commcare import MATERNAL
from demo_commcare.world import DEMO_USERNAME
from tests.e2e.stack import MOTHERS
from tests.external import programs
from tests.external.conftest import Platform
from tests.external.person import Person
from tests.external.programs import BIN, started

DAILY = {"metadata:read", "query:run", "runs:launch", "runs:cancel"}
NEW, OLD = "@modelcontextprotocol/client", "@modelcontextprotocol/sdk"
DOCUMENT = "https://claude.ai/oauth/claude-code-client-metadata"


def history(platform: Platform, person: Person, package: str, identity: str) -> list[dict[str, Any]]:
    """What a host tells of itself while `person` opens what it asks for, up to its wish for another sign-in at the end."""
    command = [str(BIN / "node"), "host.mjs", package, identity, platform.url, MOTHERS]
    told: list[dict[str, Any]] = []
    with started(*command, env=programs.environment()) as host:
        for event in host.events():
            told.append(event)
            if event["event"] == "open":
                if any(each["event"] == "revoked" for each in told):
                    break
                person.lets_in(event["address"])
    return told


@pytest.mark.parametrize("identity", ["document", "registration"])
@pytest.mark.parametrize("package", [NEW, OLD])
def test_from_an_address_to_an_answer_and_back(platform: Platform, package: str, identity: str) -> None:
    person = platform.person(DEMO_USERNAME)
    told = history(platform, person, package, identity)
    asks_for_more = ["open"] if package == NEW else []
    assert [each["event"] for each in told] == [
        "open", "tools", "answer", *asks_for_more, "step_up", "refresh", "revoked", "open",
    ], told  # fmt: skip
    by_name = {each["event"]: each for each in told}
    assert {"list_tables", "query"} <= set(by_name["tools"]["names"])
    # Of a toolset that nobody ticked: a call all the same makes the host ask for its scope, which turns it on.
    assert "set_semantics" not in by_name["tools"]["names"]

    answer, cases = by_name["answer"], len(platform.stack.demo.truth(MATERNAL).cases)
    assert answer["cases"] == cases
    assert set(answer["scopes"].split()) == DAILY
    if identity == "document":
        assert answer["client_id"] == DOCUMENT
        assert "Published by claude.ai" in person.pages[0]
    else:
        assert answer["client_id"] != DOCUMENT
        assert "It calls itself A host in TypeScript" in person.pages[0]

    more = by_name["step_up"]
    if package == NEW:
        assert more["success"] is True
        assert set(more["scopes"].split()) == DAILY | {"semantics:write"}
    else:
        # Version 1 renews its tokens instead of asking the person, gets no more by that, and gives up after one attempt.
        assert "403 after trying upscoping" in more["refused"]
        assert set(more["scopes"].split()) == DAILY

    assert (by_name["refresh"]["cases"], by_name["refresh"]["is_new"]) == (cases, True)
    assert by_name["revoked"]["status"] == 200
