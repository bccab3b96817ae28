"""Statements that share a round trip."""

import asyncio

import psycopg
import pytest

from explorer.postgres.connections import Connections, Login
from explorer.postgres.pipelined import Described, pipelined


async def connected(login: Login) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(**login.conninfo(), autocommit=True)


def test_statements_of_one_trip_give_their_results_in_order(connections: Connections) -> None:
    async def main() -> list[list[bytes | None]]:
        connection = await connected(connections.service)
        results = await pipelined(connection, [b"SELECT 1", b"SELECT 'a', NULL"], [b"DISCARD ALL"], [b"SELECT 2"])
        await connection.close()
        return [[r.get_value(0, c) for c in range(r.nfields)] for r in results]

    assert asyncio.run(main()) == [[b"1"], [b"a", None], [], [b"2"]]


def test_an_error_ends_its_group_and_the_connection_goes_on(connections: Connections) -> None:
    async def main() -> None:
        connection = await connected(connections.service)
        with pytest.raises(psycopg.errors.DivisionByZero) as caught:
            await pipelined(connection, [b"SELECT 1", b"SELECT 1 / 0", b"SELECT 3"])
        assert "zero" in (caught.value.diag.message_primary or "")
        with pytest.raises(psycopg.errors.SyntaxError):
            await pipelined(connection, [b"SELECT 1; SELECT 2"])
        assert len(await pipelined(connection, [b"SELECT 4"])) == 1
        await connection.close()

    asyncio.run(main())


def test_a_statement_is_described_and_not_run(connections: Connections) -> None:
    async def main() -> None:
        connection = await connected(connections.service)
        asked = [b"SELECT 1", Described(b"SELECT pg_sleep(60), 'a' AS b"), b"SELECT 2"]
        first, described, last = await pipelined(connection, asked)
        assert (first.get_value(0, 0), last.get_value(0, 0)) == (b"1", b"2")
        assert [described.fname(number) for number in range(described.nfields)] == [b"pg_sleep", b"b"]
        with pytest.raises(psycopg.errors.UndefinedTable):
            await pipelined(connection, [Described(b"SELECT * FROM nowhere"), b"SELECT 3"])
        with pytest.raises(psycopg.errors.SyntaxError):
            await pipelined(connection, [Described(b"SELECT 1; SELECT 2")])
        await connection.close()

    asyncio.run(main())


def test_statements_larger_than_a_sockets_buffer_arrive_whole(connections: Connections) -> None:
    async def main() -> list[int]:
        connection = await connected(connections.service)
        long = b"SELECT '" + b"x" * 3_000_000 + b"'"
        results = await pipelined(connection, [long, long])
        await connection.close()
        return [len(r.get_value(0, 0) or b"") for r in results]

    assert asyncio.run(main()) == [3_000_000, 3_000_000]


def test_a_session_that_ends_meanwhile_is_an_error(connections: Connections) -> None:
    async def main() -> None:
        connection = await connected(connections.service)
        asked = asyncio.create_task(pipelined(connection, [b"SELECT pg_sleep(10)"]))
        await asyncio.sleep(0.2)
        with connections.admin.connect(autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(asked, 5)
        await connection.close()

    asyncio.run(main())
