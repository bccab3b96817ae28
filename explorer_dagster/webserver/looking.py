"""What the UI reads about rights, for who may only look: it hides, or greys out with the reason, what would be refused.

Dagster tells its pages what a visitor may do in its GraphQL schema (`Permission`, and fields named `has…Permission`). It knows
one visitor, who may do everything; so the answers to who may only look are written again. What they may do is still decided by
the guard, which refuses the change itself.
"""

import json
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REASON = "Your role is to look, not to change."
_RIGHT = re.compile(r"has\w*Permission")


def told_rights(app: ASGIApp) -> ASGIApp:
    """The app, whose JSON answers grant no right to change."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        chunks: list[bytes] = []

        async def collect(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                body = _without_rights(b"".join(chunks))
                kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
                length = (b"content-length", str(len(body)).encode())
                await send({**start, "headers": [*kept, length]})
                await send({"type": "http.response.body", "body": body})

        # Compressed, the answer could not be read here.
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        await app({**scope, "headers": headers}, receive, collect)

    return asked


def _without_rights(body: bytes) -> bytes:
    if b"ermission" not in body:
        return body
    try:
        return json.dumps(_taken(json.loads(body))).encode()
    except ValueError:
        return body


def _taken(value: Any) -> Any:
    if isinstance(value, list):
        return [_taken(each) for each in value]
    if not isinstance(value, dict):
        return value
    taken = {name: False if _RIGHT.fullmatch(name) and each is True else _taken(each) for name, each in value.items()}
    if "permission" in taken and taken.get("value") is True:
        taken |= {"value": False, "disabledReason": _REASON}
    return taken
