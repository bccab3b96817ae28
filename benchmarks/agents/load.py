"""The callers of the benchmark of queries, in a process of their own: keep-alive connections that send prepared HTTP requests.

It reads orders as JSON lines from stdin and writes what it measured to stdout. No library of MCP or HTTP stands between,
because it would take more CPU than the servers: a response is read by its length or its chunks, and judged by its text.
"""

import asyncio
import json
import math
import os
import sys
import time
from typing import Any

_LIMIT_S = 60.0


class _Session(asyncio.Protocol):
    """One connection. `ask` sends a request and returns the whole response."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._response = bytearray()
        self._wanted: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (for the type)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._response += data
        if self._wanted is not None and not self._wanted.done() and _is_whole(self._response):
            self._wanted.set_result(bytes(self._response))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_exception(ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the server closed the connection")
        self._response.clear()
        self._wanted = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._wanted, _LIMIT_S)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _is_whole(response: bytearray) -> bool:
    end = response.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(response[:end]).lower()
    if b"transfer-encoding: chunked" in head:
        return response.endswith(b"\r\n0\r\n\r\n")
    return len(response) - end - 4 >= int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])


async def _measured(
    host: str, port: int, requests: list[bytes], sessions: int, calls: int, for_s: float = math.inf
) -> dict[str, Any]:
    """`sessions` connections send `calls` requests each, one after the other, each beginning with another of `requests`; none
    begins after `for_s`."""
    samples: list[float] = []
    errors: list[str] = []

    async def session(number: int) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(_Session, host, port)
        try:
            for call in range(calls):
                began = time.perf_counter()
                if began > ends:
                    return
                try:
                    answer = await connection.ask(requests[(number + call) % len(requests)])
                except (OSError, TimeoutError) as error:
                    errors.append(repr(error))
                    return
                samples.append((time.perf_counter() - began) * 1000)
                if not answer.startswith(b"HTTP/1.1 200") or b'"isError":true' in answer or b'"error":{' in answer:
                    errors.append(answer[-600:].decode(errors="replace"))
        finally:
            connection.close()

    began = time.perf_counter()
    ends = began + for_s
    await asyncio.gather(*map(session, range(sessions)))
    return {"ms": samples, "wall_s": time.perf_counter() - began, "failed": len(errors), "errors": errors[:3]}


def main() -> None:
    """Answer the orders of stdin: `{"host", "port", "requests", "sessions", "calls", "for_s"?}`; the first line is a greeting."""
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    for line in sys.stdin:
        order = json.loads(line)
        if not order:
            print("{}", file=answers)
            continue
        requests = [text.encode() for text in order.pop("requests")]
        print(json.dumps(asyncio.run(_measured(**order, requests=requests))), file=answers)


if __name__ == "__main__":
    main()
