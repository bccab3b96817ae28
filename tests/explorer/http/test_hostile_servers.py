"""Hostile or broken servers over real connections: soon a typed error that names resource and page, and no secret leaks."""

import contextlib
import gzip
import socket
import socketserver
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from explorer.catalog.secrets.credentials import ApiKeyCredential, OAuthCredential
from explorer.core.settings import Settings
from explorer.http import constants
from explorer.http.errors import ApiError, Unreachable, WrongServer
from explorer.providers.commcare.client import CommCareClient

KEY = ApiKeyCredential("user@example.org", "s3cr3t-key")
# The time of a whole answer is a multiple of the longest silence: here a second.
SETTINGS = Settings(
    _env_file=None, requests_per_second=1000, http_max_attempts=1, http_max_response_mb=1, http_timeout_s=0.2
)
TICK_S = 0.02
Script = Callable[[socket.socket, threading.Event], None]


def answer(body: bytes, *headers: str, status: str = "200 OK") -> Script:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""])
    return lambda connection, _: connection.sendall(head.encode() + body)


def trickle(first: bytes, piece: bytes) -> Script:
    """`first`, then `piece` after `piece` for as long as anybody listens, always before the silence is long."""

    def send(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(first)
        while not ended.wait(TICK_S):
            connection.sendall(piece)

    return send


def pour(first: bytes, piece: bytes) -> Script:
    def send(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(first)
        while not ended.is_set():
            connection.sendall(piece)

    return send


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = "Content-Encoding: gzip"
BOMB = gzip.compress(b" " * 20_000_000, 1)
SCRIPTS: dict[str, Script] = {
    "fine": answer(b"{}"),
    "bomb": answer(BOMB, GZIP),
    "bomb-in-bomb": answer(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"),
    "bomb-of-an-error": answer(BOMB, GZIP, status="500 Oops"),
    "bomb-of-a-throttle": answer(BOMB, GZIP, status="429 Slow"),
    "large-bomb": answer(gzip.compress(bytes(300_000_000), 1), GZIP),
    "flood": pour(OK + b"\r\n", b" " * 65536),
    "flood-of-headers": pour(OK, b"X-More: " + b"x" * 8000 + b"\r\n"),
    "one-huge-header": pour(OK + b"X-Huge: ", b"x" * 65536),
    "slow-headers": trickle(OK + b"X-Slow: ", b"x"),
    "slow-body": trickle(OK + b"\r\n", b" "),
    "slow-known-length": trickle(OK + b"Content-Length: 100000\r\n\r\n", b" "),
    "slow-chunk-head": trickle(CHUNKED + b"1;", b"x"),
    "slow-trailers": trickle(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-T: t\r\n"),
    "slow-interim": trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "silence": lambda _, ended: bool(ended.wait(60)) and None,
    "not-http": pour(b"", b"SSH-2.0-OpenSSH_9.6\r\n"),
    "not-http-at-all": lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "hangs-up": lambda connection, _: None,
    "half": lambda connection, _: connection.sendall(OK + b"Content-Length: 100\r\n\r\n{"),
    "two-lengths": answer(b"{}", "Content-Length: 7"),
    "not-gzip": answer(b'{"objects": []}', GZIP),
    "cut-gzip": answer(gzip.compress(b'{"objects": []}' * 100)[:-20], GZIP),
    "brotli": answer(b"x", "Content-Encoding: br"),
    "gzip-of-two": answer(gzip.compress(b'{"objects": ') + gzip.compress(b"[]}"), GZIP),
    "deflate": answer(zlib.compress(b"{}"), "Content-Encoding: deflate"),
    "bare-deflate": answer(zlib.compress(b"{}")[2:-4], "Content-Encoding: deflate"),
    "gzip-of-nothing": answer(b"", GZIP, status="401 No"),
    "announced-flood": answer(b"x" * 2_000_000),
    "html": answer(b"<!DOCTYPE html><title>Login</title>"),
    "not-text": answer(bytes(range(256))),
    "deep": answer(b"[" * 500_000),
    "deep-error": answer(b'{"error":' * 100_000, status="400 Bad"),
    "redirect": answer(b"", "Location: {elsewhere}/a/dom/api/x/", status="302 Found"),
    "redirect-nowhere": answer(b"", "Location: http://[bad", status="301 Moved"),
    "redirect-forever": answer(b"", "Location: ?again", status="307 Again"),
}


@dataclass
class HostileServer:
    """Answers `/a/dom/api/<script>/` and `/oauth/<script>` by that script; `seen` holds all bytes that it was sent."""

    url: str = ""
    elsewhere: str = "http://127.0.0.1:9"
    seen: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        while head := self._head(connection):
            self.seen.append(head)
            name = head.split(b" ", 2)[1].decode().strip("/").split("?")[0].rsplit("/", 1)[-1]
            if name == "redirect":
                location = f"Location: {self.elsewhere}/a/dom/api/x/"
                answer(b"", location, status="302 Found")(connection, self.ended)
            elif name in SCRIPTS:
                SCRIPTS[name](connection, self.ended)
                if name in ("hangs-up", "half", "not-http-at-all"):
                    return
            else:
                answer(b"")(connection, self.ended)

    def _head(self, connection: socket.socket) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (piece := connection.recv(65536)):
                return received
            received += piece
        return received


@pytest.fixture
def hostile() -> Iterator[HostileServer]:
    server = HostileServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                server.serve(self.request)

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.ended.set()
        listener.shutdown()
        thread.join()


def ask(client: CommCareClient, script: str) -> Any:
    return client.get(f"{script}/", resource="cases", page=7, decode=msgspec.json.decode)


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("bomb", "commcare_response_malformed", "larger than 1 MB"),
        ("bomb-in-bomb", "commcare_response_malformed", "compression was not asked for"),
        ("bomb-of-an-error", "commcare_response_malformed", "larger than 1 MB"),
        ("flood", "commcare_response_malformed", "larger than 1 MB"),
        ("flood-of-headers", "commcare_response_malformed", "lines are too long"),
        ("one-huge-header", "commcare_response_malformed", "lines are too long"),
        ("slow-headers", "commcare_unreachable", "did not end its answer in time"),
        ("slow-body", "commcare_unreachable", "did not end its answer in time"),
        ("slow-known-length", "commcare_unreachable", "did not end its answer in time"),
        ("slow-chunk-head", "commcare_unreachable", "did not end its answer in time"),
        ("slow-trailers", "commcare_unreachable", "did not end its answer in time"),
        ("slow-interim", "commcare_unreachable", "did not end its answer in time"),
        ("silence", "commcare_unreachable", "did not answer in time"),
        ("not-http", "commcare_response_malformed", "lines are too long"),
        ("not-http-at-all", "commcare_unreachable", "not HTTP"),
        ("hangs-up", "commcare_unreachable", "broke off"),
        ("half", "commcare_unreachable", "broke off"),
        ("two-lengths", "commcare_unreachable", "not HTTP"),
        ("not-gzip", "commcare_response_malformed", "compression is broken"),
        ("cut-gzip", "commcare_response_malformed", "compression breaks off"),
        ("brotli", "commcare_response_malformed", "compression was not asked for"),
        ("html", "commcare_not_commcare", "login page"),
        ("not-text", "commcare_response_malformed", "broken"),
        ("deep", "commcare_response_malformed", ""),
        ("deep-error", "commcare_request_refused", "HTTP 400"),
        ("redirect", "commcare_not_commcare", "redirects to 127.0.0.1"),
        ("redirect-forever", "commcare_not_commcare", "not followed"),
    ],
)
def test_what_they_send_is_a_typed_error(hostile: HostileServer, script: str, code: str, words: str) -> None:
    with CommCareClient(hostile.url, "dom", KEY, settings=SETTINGS) as client:
        with pytest.raises(ApiError) as caught:
            ask(client, script)
        assert client.usage("cases").bytes < 5_000_000
    assert caught.value.code == code
    assert words in caught.value.message
    assert (caught.value.details["resource"], caught.value.details["page"]) == ("cases", 7)
    assert "s3cr3t" not in f"{caught.value!r} {caught.value} {caught.value.as_dict()}"
    assert len(hostile.seen) == 1


@pytest.mark.parametrize("script", ["fine", "gzip-of-two", "deflate", "bare-deflate"])
def test_what_is_packed_in_ways_of_its_own_is_read(hostile: HostileServer, script: str) -> None:
    with CommCareClient(hostile.url, "dom", KEY, settings=SETTINGS) as client:
        assert ask(client, script) in ({}, {"objects": []})


@pytest.mark.parametrize(
    ("script", "tries"),
    [
        *[
            (name, 1)
            for name in ("bomb", "bomb-in-bomb", "bomb-of-an-error", "bomb-of-a-throttle", "flood", "announced-flood")
        ],
        *[
            (name, 1)
            for name in ("flood-of-headers", "one-huge-header", "deep", "not-text", "html", "not-gzip", "brotli")
        ],
        *[(name, 1) for name in ("not-http", "not-http-at-all", "two-lengths", "redirect", "gzip-of-nothing")],
        *[(name, 3) for name in ("hangs-up", "half", "cut-gzip", "slow-body")],
    ],
)
def test_only_what_may_pass_is_asked_for_again(hostile: HostileServer, script: str, tries: int) -> None:
    settings = SETTINGS.model_copy(update={"http_max_attempts": 3})
    client = CommCareClient(hostile.url, "dom", KEY, settings=settings, sleep=lambda _: None)
    with client, pytest.raises(ApiError) as caught:
        ask(client, script)
    assert (len(hostile.seen), caught.value.is_final) == (tries, tries == 1)


def test_memory_stays_flat_while_a_bomb_is_refused(hostile: HostileServer) -> None:
    """With the limit of an ordinary installation; the bomb would fill it and more."""
    settings = SETTINGS.model_copy(update={"http_max_response_mb": 256, "http_timeout_s": 10})
    tracemalloc.start()
    try:
        client = CommCareClient(hostile.url, "dom", KEY, settings=settings)
        with client, pytest.raises(ApiError, match="unpacks to more than 200 times"):
            ask(client, "large-bomb")
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert len(hostile.seen) == 1


def test_what_is_wrong_with_a_connection_is_named_and_tried_again_only_if_it_may_pass(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"http_max_attempts": 3, "http_timeout_s": 5})
    with accepting(_self_signed(tmp_path)) as own_certificate, accepting(None) as plain:
        for url, words, requests in (
            (f"https://127.0.0.1:{own_certificate}", "certificate that is not trusted", 1),
            (f"https://127.0.0.1:{plain}", "does not agree on an encrypted connection", 1),
            ("http://127.0.0.1:9", "cannot be reached", 3),
        ):
            with CommCareClient(url, "dom", KEY, settings=settings, sleep=lambda _: None) as client:
                with pytest.raises(Unreachable, match=words):
                    ask(client, "fine")
                assert client.usage("cases").requests == requests


@contextlib.contextmanager
def accepting(context: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a server that speaks TLS by `context`, or plain text whatever it is sent."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                if context is None:
                    self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    self.request.recv(65536)
                else:
                    context.wrap_socket(self.request, server_side=True).recv(65536)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        yield listener.server_address[1]
        listener.shutdown()


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "server.pem"
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*pem) + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_redirect_without_a_readable_address_is_an_error(hostile: HostileServer) -> None:
    with CommCareClient(hostile.url, "dom", KEY, settings=SETTINGS) as client, pytest.raises(ApiError):
        ask(client, "redirect-nowhere")


def test_the_key_does_not_follow_a_redirect(hostile: HostileServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        hostile.elsewhere = f"http://127.0.0.1:{other.getsockname()[1]}"
        with CommCareClient(hostile.url, "dom", KEY, settings=SETTINGS) as client, pytest.raises(WrongServer):
            ask(client, "redirect")
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_headers_that_trickle_over_a_used_connection_end_too_and_others_go_on(hostile: HostileServer) -> None:
    """Whose socket it is cannot be known then: all are cut, and requests on the others are simply made again."""
    patient = SETTINGS.model_copy(update={"http_max_attempts": 4})
    with CommCareClient(hostile.url, "dom", KEY, settings=patient) as client:
        assert ask(client, "fine") == {}
        client._max_attempts = 1
        with pytest.raises(Unreachable, match="did not end its answer in time"):
            ask(client, "slow-headers")
        client._max_attempts = 4
        assert ask(client, "fine") == {}


def test_an_answer_within_its_time_leaves_nothing_behind(hostile: HostileServer) -> None:
    with CommCareClient(hostile.url, "dom", KEY, settings=SETTINGS) as client:
        for _ in range(20):
            ask(client, "fine")
        timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        for timer in timers:
            timer.join()
    assert constants.ANSWER_TIMEOUTS > 1
    assert not any(thread.is_alive() for thread in timers)


@pytest.mark.parametrize(
    "script", ["bomb", "bomb-in-bomb", "flood", "slow-headers", "slow-body", "deep", "html", "redirect"]
)
def test_token_endpoints_are_held_to_the_same(
    hostile: HostileServer, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "TOKEN_ATTEMPTS", 1)
    grant = OAuthCredential("c", "cl13nt-s3cr3t", f"{hostile.url}/oauth/{script}", "", "r3fr3sh", None)
    with CommCareClient(hostile.url, "dom", grant, settings=SETTINGS) as client, pytest.raises(ApiError) as caught:
        ask(client, "fine")
    text = f"{caught.value!r} {caught.value} {caught.value.as_dict()}"
    assert "s3cr3t" not in text
    assert "r3fr3sh" not in text


def proxied(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.upper(), proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_proxy_of_the_environment_never_sees_what_is_not_encrypted(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of one's own network, without TLS: asked directly, whatever the environment says."""
    resolve = socket.getaddrinfo
    here = {"commcare.internal": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve(here.get(host, host), *rest, **more))
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxied(monkeypatch, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        direct = hostile.url.replace("127.0.0.1", "commcare.internal")
        with CommCareClient(direct, "dom", KEY, settings=SETTINGS) as client:
            assert ask(client, "fine") == {}
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_a_proxy_of_the_environment_carries_https_without_seeing_the_key(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied(monkeypatch, hostile.url)
    with CommCareClient("https://hq.example.org", "dom", KEY, settings=SETTINGS) as client, pytest.raises(Unreachable):
        ask(client, "fine")
    assert hostile.seen
    assert all(head.startswith(b"CONNECT hq.example.org:443") for head in hostile.seen[:1])
    assert b"s3cr3t" not in b"".join(hostile.seen)
