"""The browser of one of the demo server's people, and a client that gets its codes."""

import re
import secrets
from urllib.parse import parse_qs, urlsplit

import httpx

from demo_commcare import RunningServer
from demo_commcare.sign_in.oauth import s256

CALLBACK = "http://127.0.0.1:4711/oauth/callback/demo"


class Browser:
    """A person's browser: it follows no redirect by itself."""

    def __init__(self, server: RunningServer) -> None:
        self.server, self.verifier = server, secrets.token_urlsafe(40)
        self.http = httpx.Client(base_url=server.url, verify=False, trust_env=False)

    def params(self, **changes: str) -> dict[str, str]:
        given = {
            "client_id": self.server.control.oauth_client[0],
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "access_apis",
            "state": "xyz",
            "code_challenge": s256(self.verifier),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (given | changes).items() if value}

    def log_in(self, username: str, password: str = "demo", **changes: str) -> httpx.Response:
        page = self.http.get("/oauth/authorize/", params=self.params(**changes))
        assert 'name="password"' in page.text
        query = str(page.request.url.query, "ascii")
        answer = self.http.post("/accounts/login/", data={"username": username, "password": password, "next": query})
        return self.http.get(answer.headers["location"]) if answer.status_code == 303 else answer

    def decide(self, page: httpx.Response, **form: object) -> dict[str, str]:
        """The parameters of the redirect to the client."""
        target = urlsplit(self.decided(page, **form))
        assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
        return {name: values[0] for name, values in parse_qs(target.query).items()}

    def decided(self, page: httpx.Response, **form: object) -> str:
        """Where the consent page sends the browser."""
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert token
        answer = self.http.post(str(page.request.url), data={"token": token[1], **form})
        assert answer.status_code == 302, answer.text
        location: str = answer.headers["location"]
        return location

    def comes_from(self, address: str, username: str, *domains: str) -> str:
        """Where the browser is sent that came to the consent page by `address`, logged in and allowed these spaces."""
        query = urlsplit(address).query
        form = {"username": username, "password": "demo", "next": query}
        page = self.http.get(self.http.post("/accounts/login/", data=form).headers["location"])
        return self.decided(page, allow="Authorize", domain=list(domains))

    def token(self, **form: str) -> httpx.Response:
        client_id, secret = self.server.control.oauth_client
        return self.http.post("/oauth/token/", data={"client_id": client_id, "client_secret": secret, **form})

    def exchange(self, code: str, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        return self.token(**(form | changes))

    def signed_in(self, username: str, *domains: str) -> dict[str, str]:
        page = self.log_in(username)
        code = self.decide(page, allow="Authorize", domain=list(domains))["code"]
        answer = self.exchange(code)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, access_token: str) -> httpx.Response:
        return self.http.get(path, headers={"Authorization": f"Bearer {access_token}"})

    def domains(self, access_token: str) -> list[str]:
        return [row["domain_name"] for row in self.get("/api/user_domains/v1/", access_token).json()["objects"]]
