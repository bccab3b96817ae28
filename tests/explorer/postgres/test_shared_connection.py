"""A connection that all tasks of an event loop share."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from explorer.postgres.connections import Connections, Login
from explorer.postgres.shared_connection import SharedConnection

PID = b"SELECT pg_backend_pid()::text"


def shared(login: Login, within_s: float = 5) -> SharedConnection:
    return SharedConnection(login, application_name="shared", within_s=within_s)


def test_what_is_asked_at_once_is_answered_to_each(connections: Connections) -> None:
    async def main() -> list[bytes | None]:
        connection = shared(connections.service)
        doubled = b"SELECT ($1::int * 2)::text WHERE $1::int <> 7"
        answers = await asyncio.gather(*(connection.ask(doubled, b"%d" % number) for number in range(100)))
        assert len(set(await asyncio.gather(*(connection.ask(PID) for _ in range(5))))) == 1
        connection.close()
        return answers

    assert asyncio.run(main()) == [b"%d" % (2 * number) if number != 7 else None for number in range(100)]


def test_nulls_go_in_and_come_out(connections: Connections) -> None:
    async def main() -> tuple[bytes | None, bytes | None]:
        connection = shared(connections.service)
        found = await connection.ask(b"SELECT NULL"), await connection.ask(b"SELECT ($1::text IS NULL)::text", None)
        connection.close()
        return found

    assert asyncio.run(main()) == (None, b"true")


def test_an_error_is_told_and_the_connection_goes_on(connections: Connections) -> None:
    async def main() -> None:
        connection = shared(connections.service)
        before = await connection.ask(PID)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.ask(b"SELECT (1 / $1::int)::text", b"0")
        assert await connection.ask(b"SELECT (1 / $1::int)::text", b"1") == b"1"
        assert await connection.ask(PID) == before
        with pytest.raises(psycopg.errors.UndefinedTable):
            await connection.ask(b"SELECT FROM not_there")
        assert await connection.ask(b"SELECT 'again'") == b"again"
        connection.close()

    asyncio.run(main())


def test_a_caller_that_gave_up_takes_nobodys_answer(connections: Connections) -> None:
    async def main() -> None:
        connection = shared(connections.service)
        await connection.ask(PID)
        slow = asyncio.create_task(connection.ask(b"SELECT pg_sleep(0.3)::text || 'slow'"))
        await asyncio.sleep(0.05)
        slow.cancel()
        assert await connection.ask(b"SELECT 'mine'") == b"mine"
        connection.close()

    asyncio.run(main())


def test_large_values_arrive_whole(connections: Connections) -> None:
    async def main() -> list[bytes | None]:
        connection = shared(connections.service)
        asked = (connection.ask(b"SELECT length($1::text)::text", b"x" * 3_000_000) for _ in range(3))
        found = await asyncio.gather(*asked)
        connection.close()
        return found

    assert asyncio.run(main()) == [b"3000000"] * 3


def test_what_the_server_ended_is_opened_again(connections: Connections) -> None:
    async def main() -> None:
        connection = shared(connections.service)
        ended = await connection.ask(PID)
        with connections.admin.connect(autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [int(ended or 0)])
        await asyncio.sleep(0.1)
        assert await connection.ask(PID) != ended
        connection.close()

    asyncio.run(main())


def test_who_waits_when_the_server_ends_it_is_told(connections: Connections) -> None:
    async def main() -> None:
        connection = shared(connections.service)
        pid = int(await connection.ask(PID) or 0)
        waiting = asyncio.create_task(connection.ask(b"SELECT pg_sleep(4)::text"))
        await asyncio.sleep(0.2)
        with connections.admin.connect(autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(waiting, 3)
        connection.close()

    asyncio.run(main())


def test_nobody_waits_longer_than_promised_and_the_next_is_served(connections: Connections) -> None:
    async def main() -> None:
        connection = shared(connections.service, within_s=0.4)
        pid = await connection.ask(PID)
        with pytest.raises((TimeoutError, psycopg.OperationalError)):
            await connection.ask(b"SELECT pg_sleep(4)::text")
        assert await connection.ask(PID) not in (None, pid)
        connection.close()

    asyncio.run(asyncio.wait_for(main(), 4))


@contextmanager
def mute_server() -> Iterator[Login]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []
        threading.Thread(target=lambda: kept.append(listening.accept()[0]), daemon=True).start()
        yield Login("127.0.0.1", listening.getsockname()[1], "x", "x", "x")
        for connection in kept:
            connection.close()


def test_a_server_that_says_nothing_is_given_up() -> None:
    async def main(login: Login) -> None:
        with pytest.raises(TimeoutError):
            await shared(login, within_s=0.3).ask(PID)

    with mute_server() as login:
        asyncio.run(asyncio.wait_for(main(login), 4))


def test_an_absent_server_is_told_to_all_who_wait() -> None:
    async def main() -> list[type]:
        connection = shared(Login("127.0.0.1", 1, "x", "x", "x"))
        found = await asyncio.gather(*(connection.ask(PID) for _ in range(3)), return_exceptions=True)
        return [type(error) for error in found]

    assert set(asyncio.run(main())) <= {psycopg.OperationalError, psycopg.errors.ConnectionTimeout}
