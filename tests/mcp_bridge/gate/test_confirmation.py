"""Before data goes, the user is asked: by the host in either revision and over both transports, else by `confirm`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from mcp.client import Client, ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestParams, ElicitResult, InputRequiredResult

from explorer.catalog import State
from explorer.tenants import provision_schema
from tests.mcp_bridge.stage import Stage, ask, http_client, refused, stdio_server

KEY = "demo:asked"
YES = ElicitResult(action="accept", content={"agree": True})


@dataclass
class User:
    """Gives these answers, one after the other, and remembers what was asked."""

    answers: list[ElicitResult]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return self.answers.pop(0)


@asynccontextmanager
async def client_of(
    stage: Stage, url: str, token: str, transport: str, mode: str, user: User | None
) -> AsyncIterator[Client]:
    if transport == "http":
        async with http_client(url, token, mode=mode, asked=user) as client:
            yield client
    else:
        server = stdio_server(stage, EXPLORER_TOKEN=token)
        async with Client(server, mode=mode, elicitation_callback=user) as client:
            yield client


@pytest.mark.parametrize(("transport", "mode"), [("http", "auto"), ("http", "legacy"), ("stdio", "legacy")])
def test_data_goes_only_when_the_user_agrees(stage: Stage, bridge_url: str, transport: str, mode: str) -> None:
    name = f"asked-{transport}-{mode}"
    token, tenant = stage.token(name, KEY), stage.tenants[KEY]
    user = User(
        [
            ElicitResult(action="decline"),
            ElicitResult(action="cancel"),
            ElicitResult(action="accept", content={"agree": False}),
            ElicitResult(action="accept", content={"agree": "why not, go on"}),
            YES,
        ]
    )

    async def main() -> None:
        async with client_of(stage, bridge_url, token, transport, mode, user) as client:
            before = await ask(client, "list_tables")
            # An agent that confirms by itself does not get round the user.
            for arguments in ({}, {"confirm": KEY}, {}, {}):
                assert (await refused(client, "teardown_schema", **arguments))["code"] == "declined"
            assert (await refused(client, "teardown_schema", confirm="demo:other"))["code"] == "confirmation_required"
            assert len(user.asked) == 4
            assert KEY in user.asked[0]
            assert await ask(client, "list_tables") == before
            assert (await ask(client, "teardown_schema"))["dropped"] is True

    asyncio.run(main())
    assert stage.catalog.schemas.get(tenant).state is State.ABSENT
    outcomes = [
        (record.entry.outcome, record.entry.detail.get("confirmed_by"))
        for record in stage.catalog.audit.read(actor=name)
        if record.entry.action == "teardown_schema"
    ]
    assert outcomes[0] == ("ok", "user")
    assert ("asked" in {outcome for outcome, _ in outcomes}) is (mode == "auto")
    provision_schema(stage.settings, stage.catalog, stage.connections, tenant)


def test_an_answer_counts_only_for_the_question_that_was_asked(stage: Stage, bridge_url: str) -> None:
    """Neither without the seal, nor for another tenant or another user, nor once there are new schemas."""
    token, other = stage.token("replayer", KEY, "demo:second"), stage.token("thief", KEY)
    tenant, answers = stage.tenants[KEY], {"confirmation": YES}

    async def call(client: Client, tenant: str, **seeded: Any) -> InputRequiredResult:
        arguments = {"tenant": tenant}
        result = await client.session.call_tool("teardown_schema", arguments, allow_input_required=True, **seeded)
        assert isinstance(result, InputRequiredResult)
        return result

    async def main() -> None:
        user = User([])
        async with (
            http_client(bridge_url, token, asked=user) as client,
            http_client(bridge_url, other, asked=user) as thief,
        ):
            sealed = (await call(client, KEY)).request_state
            await call(client, KEY, input_responses=answers)
            for whose, key in ((client, "demo:second"), (thief, KEY)):
                with pytest.raises(MCPError, match="requestState"):
                    await call(whose, key, input_responses=answers, request_state=sealed)
            assert stage.catalog.schemas.get(tenant).state is State.ACTIVE
            done = await client.session.call_tool(
                "teardown_schema", {"tenant": KEY}, input_responses=answers, request_state=sealed
            )
            assert done.structured_content["data"]["dropped"] is True
            await asyncio.to_thread(provision_schema, stage.settings, stage.catalog, stage.connections, tenant)
            await call(client, KEY, input_responses=answers, request_state=sealed)
            assert stage.catalog.schemas.get(tenant).state is State.ACTIVE

    asyncio.run(main())
