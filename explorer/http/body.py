"""How is an answer's body read without filling memory? Decoded in pieces, and refused as soon as it is too large."""

import threading
import zlib
from collections.abc import Iterator
from typing import Any

import httpx

from explorer.http import constants
from explorer.http.failures import AnswerRefused

_PIECE_BYTES = 256 * 1024


class BodyReader:
    """Reads bodies of at most `max_mb` MB. Only one answer at a time may be large, so that the threads of a load together do not
    fill memory. The others wait, for at most `max_wait_s`."""

    def __init__(self, max_mb: int, max_wait_s: float) -> None:
        self._max_mb = max_mb
        self._max_wait_s = max_wait_s
        self._large = threading.Semaphore()

    def read(self, response: httpx.Response) -> bytes:
        """The decoded body.

        Raises:
            AnswerRefused: it is too large, a decompression bomb, or not encoded as its header says.
        """
        status = response.status_code
        chunks, size = [], 0
        is_large = False
        pieces = self._pieces(response)
        try:
            for piece in pieces:
                size += len(piece)
                self._check(response, size)
                if not is_large and size > constants.LARGE_ANSWER_BYTES:
                    is_large = self._large.acquire(timeout=self._max_wait_s)
                chunks.append(piece)
        except zlib.error:
            received = response.num_bytes_downloaded
            raise AnswerRefused(status, "its compression is broken", may_pass=False, received=received) from None
        except EOFError:
            received = response.num_bytes_downloaded
            raise AnswerRefused(status, "its compression breaks off", may_pass=True, received=received) from None
        finally:
            if is_large:
                self._large.release()
        return b"".join(chunks)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        status, encoding = response.status_code, _encoding(response)
        if encoding not in constants.ACCEPTED_ENCODINGS:
            raise AnswerRefused(status, "its compression was not asked for", may_pass=False)
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > self._limit:
            raise AnswerRefused(status, f"it is larger than {self._max_mb} MB", may_pass=False)
        if response.is_stream_consumed:
            # Transports that return whole answers have decoded them already.
            return iter([response.content])
        return response.iter_raw() if encoding in ("", "identity") else _unpacked(response, encoding)

    def _check(self, response: httpx.Response, size: int) -> None:
        status, received = response.status_code, response.num_bytes_downloaded
        if size > self._limit:
            raise AnswerRefused(status, f"it is larger than {self._max_mb} MB", may_pass=False, received=received)
        if _encoding(response) and size > constants.BOMB_BYTES and size > constants.BOMB_RATIO * received:
            why = f"it unpacks to more than {constants.BOMB_RATIO} times its size"
            raise AnswerRefused(status, why, may_pass=False, received=received)

    @property
    def _limit(self) -> int:
        return self._max_mb * 1024 * 1024


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Encoding", "")).strip().lower()


def _unpacked(response: httpx.Response, encoding: str) -> Iterator[bytes]:
    """The decoded body in pieces of bounded size. gzip may have several members.

    Raises:
        zlib.error: the data does not match its header.
        EOFError: the data ends too early.
    """
    unpacker: Any = None
    for left in response.iter_raw():
        while left:
            if unpacker is None or (unpacker.eof and encoding == "gzip"):
                # "deflate" means a zlib stream or, from some servers, a bare one: the first byte tells which.
                bits = 31 if encoding == "gzip" else 15 if left[0] & 0x0F == 8 else -15
                unpacker = zlib.decompressobj(bits)
            elif unpacker.eof:
                raise zlib.error("data behind the end")
            yield unpacker.decompress(left, _PIECE_BYTES)
            left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    # The last piece may unpack to more than one piece.
    while unpacker is not None and not unpacker.eof:
        more = unpacker.decompress(b"", _PIECE_BYTES)
        if not more:
            raise EOFError
        yield more
