"""The allowed addresses of a server."""

import pytest

from explorer.http.address import Server
from explorer.http.errors import WrongServer


@pytest.mark.parametrize(
    ("url", "base"),
    [("https://www.commcarehq.org/", "https://www.commcarehq.org"), ("www.commcarehq.org", "https://www.commcarehq.org"),
     ("http://127.0.0.1:8000", "http://127.0.0.1:8000"), ("http://commcare:8000", "http://commcare:8000")],
)  # fmt: skip
def test_server_addresses(url: str, base: str) -> None:
    assert Server.parse(url, "other", "https://other.example").base == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://x.org",
        "http://www.commcarehq.org",
        "https://u:p@hq.org",
        "https://hq.org/?x=1",
        "https://",
        "https://[bad",
    ],
)
def test_server_addresses_that_cannot_be_used(url: str) -> None:
    with pytest.raises(WrongServer) as caught:
        Server.parse(url, "other", "https://other.example")
    assert caught.value.code == "other_not_other"
