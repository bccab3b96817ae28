"""The pages of the sign-in: what they say, that nothing from outside becomes markup, and their headers."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.responses import Response

from explorer.catalog import Scope
from explorer.core.toolsets import Toolset
from mcp_bridge.sign_in import pages
from mcp_bridge.sign_in.pages import connect, consent, problem, progress, register, text
from tests.mcp_bridge.sign_in import samples

ALL = {
    "consent": consent(samples.CONSENT),
    "local": consent(samples.CONSENT_LOCAL),
    "posing": consent(samples.CONSENT_POSING),
    "hostile": consent(samples.CONSENT_HOSTILE),
    "connect": connect(samples.CONNECT),
    "nothing": connect(samples.CONNECT_NOTHING),
    "problem": problem(samples.PROBLEM),
    "register": register(samples.REGISTER),
    "progress": progress(samples.PROGRESS),
    "failed": progress(samples.FAILED),
}


class Seen(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def seen(response: Response) -> Seen:
    return Seen(bytes(response.body).decode())


@pytest.mark.parametrize("name", ALL)
def test_a_page_loads_and_runs_nothing_but_its_own_style(name: str) -> None:
    response, page = ALL[name], seen(ALL[name])
    policy = response.headers["content-security-policy"]
    [style] = page.all("style")
    assert f"'nonce-{style['nonce']}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "form-action" not in policy
    assert "unsafe" not in policy
    assert {"script", "img", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.elements)
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on") or key == "style"]
    expected = {"cache-control": "no-store", "referrer-policy": "same-origin", "x-frame-options": "DENY"}
    assert expected.items() <= dict(response.headers).items()
    assert "cross-origin-opener-policy" not in response.headers


def test_no_two_pages_have_one_nonce() -> None:
    nonces = [seen(consent(samples.CONSENT)).all("style")[0]["nonce"] for _ in range(2)]
    assert nonces[0] != nonces[1]


@pytest.mark.parametrize("name", ALL)
def test_a_page_can_be_used_without_seeing_it(name: str) -> None:
    page = seen(ALL[name])
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    labelled = {label["for"] for label in page.all("label")}
    inputs = [each for each in (*page.all("input"), *page.all("select")) if each.get("type") != "hidden"]
    assert {each["id"] for each in inputs} == labelled
    assert "user-scalable" not in str(page.all("meta"))


def test_names_from_outside_stay_text() -> None:
    html = bytes(ALL["hostile"].body).decode()
    assert "<script" not in html
    assert "<b>" not in html
    assert "<i>" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "x" * 150 not in html
    [hidden] = [each for each in seen(ALL["hostile"]).all("input") if each["name"] == "request"]
    assert hidden["value"] == '"><script>'


def test_consent_says_who_asks_for_what_and_where_the_answer_goes() -> None:
    page = seen(ALL["consent"])
    for said in ("Claude wants to work", "Published by claude.ai", "The answer goes to claude.ai", "Start a refresh"):
        assert said in page.text
    assert "Create and delete" not in page.text
    buttons = [(each["name"], each["value"]) for each in page.all("button")]
    assert buttons == [("provider", "www"), ("provider", "acme"), ("decision", "deny")]
    ticked = {f"toolset_{toolset}": "on" for toolset in Toolset}
    assert {each["name"]: each["value"] for each in page.all("input")} == samples.HIDDEN | ticked
    assert not [each for each in page.all("input") if "checked" in each]


def test_a_client_that_is_not_what_it_seems_is_visible_as_such() -> None:
    assert "Nobody has confirmed that" in seen(ALL["posing"]).text
    assert "this is not Claude of claude.ai" in seen(ALL["posing"]).text
    assert "runs on your own computer" in seen(ALL["local"]).text
    for quiet in ("Nobody has confirmed", "Careful", "your own computer"):
        assert quiet not in seen(ALL["consent"]).text


def test_one_sees_ones_tenants_and_why_others_are_not_there() -> None:
    page = seen(ALL["connect"])
    for said in (
        "amina@clinic.example",
        "Maternal health",
        "its tables hold all of it",
        "Register malaria-2026",
        "Ask for nutrition-2026",
    ):
        assert said in page.text
    buttons = [(each["name"], each["value"]) for each in page.all("button")]
    assert buttons == [
        ("register", "1"),
        ("ask", "2"),
        ("decision", "connect"),
        ("decision", "other"),
        ("decision", "deny"),
    ]
    nothing = [(each["name"], each["value"]) for each in seen(ALL["nothing"]).all("button")]
    assert nothing == [("decision", "other"), ("decision", "deny")]


def test_a_page_of_progress_comes_again_until_it_is_finished() -> None:
    assert ALL["progress"].headers["refresh"] == "2"
    assert "refresh" not in ALL["failed"].headers
    assert "could not be brought in" in seen(ALL["failed"]).text
    assert [each["name"] for each in seen(ALL["failed"]).all("button")] == ["decision"]
    assert seen(ALL["progress"]).all("button") == []


def test_a_secret_is_typed_unseen_and_a_refused_form_says_why() -> None:
    page = seen(ALL["register"])
    assert {each["name"]: each["type"] for each in page.all("input") if each["type"] != "hidden"} == {
        "field_username": "text",
        "field_api_key": "password",
    }
    assert ALL["register"].status_code == 422
    assert "does not accept this key" in page.text


def test_every_scope_has_its_words_and_every_text_is_used() -> None:
    for scope in Scope:
        assert text(f"scope.{scope.value.replace(':', '_')}")
    for toolset in Toolset:
        assert text(f"toolset.{toolset}")
    sign_in = Path(pages.__file__).parents[1]
    used = "".join(file.read_text() for file in (*sign_in.rglob("*.py"), *sign_in.rglob("*.html")))
    texts = tomllib.loads((sign_in / "pages" / "en.toml").read_text())
    # Of these the names are made from a scope, a toolset, a state, a choice or an error.
    whole = {kind for kind in texts if f'"{kind}." ~' in used or f'f"{kind}.{{' in used}
    unused = [
        f"{kind}.{name}" for kind in texts.keys() - whole for name in texts[kind] if f'"{kind}.{name}"' not in used
    ]
    assert (unused, len(whole)) == ([], 5)
    html = "".join(bytes(response.body).decode() for response in ALL.values())
    assert not re.search(r"\{[a-z]+\}", html.split("</style>")[1])
