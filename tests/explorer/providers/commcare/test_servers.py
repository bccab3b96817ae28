import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.catalog import ServerInvalid
from explorer.core.errors import ExplorerError
from explorer.providers.commcare.servers import SERVERS, DomainInvalid, check_domain, domain_key


@pytest.mark.parametrize(
    ("given_server", "canonical"),
    [
        ("www", "https://www.commcarehq.org"),
        ("India", "https://india.commcarehq.org"),
        ("eu", "https://eu.commcarehq.org"),
        ("https://www.commcarehq.org/", "https://www.commcarehq.org"),
        ("HTTPS://WWW.CommCareHQ.org:443//", "https://www.commcarehq.org"),
        ("www.commcarehq.org", "https://www.commcarehq.org"),
        ("https://commcarehq.org", "https://www.commcarehq.org"),
        (" https://hq.example.org:8443 ", "https://hq.example.org:8443"),
        ("https://hq.example.org.", "https://hq.example.org"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://[2001:DB8:0::1]", "https://[2001:db8::1]"),
    ],
)
def test_a_server_has_one_spelling(given_server: str, canonical: str) -> None:
    assert SERVERS.normalize(given_server) == canonical
    assert SERVERS.normalize(canonical) == canonical


@pytest.mark.parametrize(
    "server",
    [
        "",
        "https://",
        "http://www.commcarehq.org",
        "http://127.0.0.1.example.org",
        "http://0.0.0.0",
        "ftp://hq.example.org",
        "file:///etc/passwd",
        "https://hq.example.org/a/domain",
        "https://hq.example.org/?x=1",
        "https://hq.example.org?",
        "https://hq.example.org/#",
        "https://hq.example.org:0",
        "https://hq.example.org:99999",
        "https://hq.example.org:",
        "https://hq .example.org",
        "https://hq.example.org\n.evil.org",
        "https://hq.example.org\\@evil.org",
        "https://-hq.example.org",
        "https://hq..example.org",
        "https://[::1",
        "https://[fe80::1%25eth0]",
    ],
)
def test_what_is_no_server_is_refused(server: str) -> None:
    with pytest.raises(ServerInvalid):
        SERVERS.normalize(server)


@pytest.mark.parametrize("server", ["https://user:hunter2@hq.example.org", "user:hunter2@hq.example.org:99999"])
def test_a_password_in_a_server_is_refused_and_not_repeated(server: str) -> None:
    with pytest.raises(ServerInvalid) as refused:
        SERVERS.normalize(server)
    assert "hunter2" not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_a_server_or_a_typed_error(text: str) -> None:
    try:
        server = SERVERS.normalize(text)
    except ExplorerError:
        return
    assert SERVERS.normalize(server) == server
    assert server.startswith(("https://", "http://127.", "http://localhost", "http://[::1]"))


@pytest.mark.parametrize("domain", ["my-project", "a.b:c_D-1", "1", "x" * 256, " padded "])
def test_names_that_hq_routes_are_domains(domain: str) -> None:
    assert check_domain(domain) == domain.strip()


@pytest.mark.parametrize("domain", ["", ".", "..", "-", "a/b", "a b", "a?b", "ä", "a\nb", "x" * 257, "a%2Fb"])
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(DomainInvalid):
        check_domain(domain)


def test_spellings_that_hq_takes_for_one_domain_are_one() -> None:
    assert domain_key("My_Project") == domain_key("my-project")
    assert domain_key("a.b") != domain_key("a-b")
