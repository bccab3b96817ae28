"""A person with a browser, between a program that asks to be let in, the bridge's pages, and the server of their account."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from demo_commcare import RunningServer
from tests.demo_browser import Browser
from tests.mcp_bridge.sign_in.house import hidden

# Signs in and agrees at the server to which the address leads; returns the address to which the browser is sent back.
SignIn = Callable[[str], str]


def browser() -> httpx.Client:
    """Keeps cookies, and follows no redirect by itself."""
    return httpx.Client(trust_env=False, verify=False, timeout=60)


@dataclass
class Person:
    """`way`: the name of the server or provider in the sign-in file. `pages`: the text that the person read, in order."""

    bridge: str
    way: str
    sign_in: SignIn
    pages: list[str] = field(default_factory=list)
    http: httpx.Client = field(default_factory=browser)

    def signs_in(self, address: str) -> httpx.Response:
        """The page that the person gets who has signed in, for the program that opened the browser at `address`."""
        away = self._sends(self._reads(address), provider=self.way)
        return self._reads(self._goes(self.sign_in(away)))

    def comes_to(self, address: str) -> str:
        """Where the browser is sent at last, with the answer for the program."""
        return self._sends(self.signs_in(address), decision="connect")

    def lets_in(self, address: str) -> None:
        """The same, and the browser goes there."""
        assert self.http.get(self.comes_to(address)).is_success

    def _reads(self, address: str) -> httpx.Response:
        page = self.http.get(address)
        assert page.status_code == 200, page.text
        self.pages.append(re.sub(r"<[^>]+>", "", page.text))
        return page

    def _goes(self, address: str) -> str:
        return sent_on(self.http.get(address))

    def _sends(self, page: httpx.Response, **fields: str) -> str:
        action = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert action, page.text
        form = {**hidden(page), **fields}
        return sent_on(self.http.post(str(page.url.join(action[1])), data=form, headers={"Origin": self.bridge}))


def sent_on(response: httpx.Response) -> str:
    """The address to which a browser is sent."""
    assert response.is_redirect, response.text
    return str(response.request.url.join(response.headers["location"]))


def at_demo(server: RunningServer, username: str, *domains: str) -> SignIn:
    """At the demo server, with these project spaces picked."""
    return lambda address: Browser(server).comes_from(address, username, *domains)


def at_organisation(login: str) -> SignIn:
    """At the organisation's provider: its page for signing in, then its page for consent."""

    def sign_in(address: str) -> str:
        with browser() as http:
            issuer = httpx.URL(address).host, httpx.URL(address).port
            while (httpx.URL(address).host, httpx.URL(address).port) == issuer:
                answer = http.get(address)
                while not answer.is_redirect:
                    action = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
                    assert action, answer.text
                    prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
                    assert prompt, answer.text
                    form = {"prompt": prompt[1], "login": login, "password": "any"}
                    answer = http.post(str(answer.url.join(action[1])), data=form)
                address = sent_on(answer)
        return address

    return sign_in
