"""The pages of `/oauth/authorize/`: log in, choose project spaces, allow.

As HQ shows them: always, whatever the client asks, and the token then has a `domain:<name>` scope for each chosen space.
"""

import hmac
import html
import secrets
from collections.abc import Iterable
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from demo_commcare.faults import AnswerSwitches
from demo_commcare.sign_in.accounts import PASSWORD, Account, Accounts
from demo_commcare.sign_in.oauth import Grant, TokenStore
from demo_commcare.world import World

_COOKIE = "sessionid"
_PATH = "/oauth/authorize/"
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 2rem auto; padding: 0 1rem; color: #1c2126 }}
label {{ display: block; margin: .4rem 0 }} input {{ font: inherit }} button {{ font: inherit; padding: .4rem 1rem }}
</style></head><body><h1>{title}</h1>{body}</body></html>"""


class ConsentPages:
    """Log-in and consent, with sessions in memory."""

    def __init__(self, world: World, accounts: Accounts, tokens: TokenStore, switches: AnswerSwitches) -> None:
        self._world, self._accounts, self._tokens, self._switches = world, accounts, tokens, switches
        # By session: the user name and the form's token.
        self._sessions: dict[str, tuple[str, str]] = {}

    def routes(self) -> list[Route]:
        return [
            Route(_PATH, self._show, methods=["GET"]),
            Route(_PATH, self._decide, methods=["POST"]),
            Route("/accounts/login/", self._log_in, methods=["POST"]),
            Route("/accounts/logout/", self._log_out, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        if (wrong := self._fault(request)) is not None:
            return _page("Error", f"<p>{html.escape(wrong)}</p>", 400)
        found = self._session(request)
        if found is None:
            return self._log_in_page(request.url.query)
        account, form_token = found
        with self._world.lock:
            spaces = [(project.name, project.title) for project in self._accounts.spaces(account.username)]
        return _page("Authorize Data Explorer?", self._consent(request, account, form_token, spaces))

    async def _decide(self, request: Request) -> Response:
        """Redirect to the client with a code, or with `access_denied`."""
        wrong, found = self._fault(request), self._session(request)
        form = await request.form()
        if wrong is not None or found is None or not hmac.compare_digest(str(form.get("token", "")), found[1]):
            return _page("Error", f"<p>{html.escape(wrong or 'Log in again.')}</p>", 403)
        params = request.query_params
        back = {"state": params["state"]} if "state" in params else {}
        if "allow" not in form:
            return _to_client(params["redirect_uri"], {"error": "access_denied", **back})
        with self._world.lock:
            mine = {project.name for project in self._accounts.spaces(found[0].username)}
        chosen = {f"domain:{name}" for name in map(str, form.getlist("domain")) if name in mine}
        scopes = {"access_apis"} | (chosen if self._switches.domain_picker else set())
        grant = Grant(found[0].username, frozenset(scopes))
        code = self._tokens.issue_code(grant, params["redirect_uri"], params.get("code_challenge", ""))
        return _to_client(params["redirect_uri"], {"code": code, **back})

    async def _log_in(self, request: Request) -> Response:
        form = await request.form()
        query = str(form.get("next", ""))
        with self._world.lock:
            account = self._accounts.log_in(str(form.get("username", "")), str(form.get("password", "")))
        if account is None:
            return self._log_in_page(query, "Please enter a correct email address and password.")
        session = secrets.token_urlsafe(24)
        self._sessions[session] = (account.username, secrets.token_urlsafe(24))
        answer = RedirectResponse(f"{_PATH}?{query}", 303)
        answer.set_cookie(_COOKIE, session, httponly=True, samesite="lax")
        return answer

    async def _log_out(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get(_COOKIE, ""), None)
        query = str((await request.form()).get("next", ""))
        return RedirectResponse(f"{_PATH}?{query}", 303)

    def _fault(self, request: Request) -> str | None:
        """What is wrong with the request. Nothing is sent to an address that is not registered."""
        params = request.query_params
        if params.get("client_id") != self._tokens.client_id:
            return "Invalid client_id parameter value."
        if not self._tokens.is_redirect_uri(params.get("redirect_uri", "")):
            return "Mismatching redirect URI."
        if params.get("response_type") != "code":
            return "unsupported_response_type"
        if "access_apis" not in params.get("scope", "").split():
            return "invalid_scope"
        if "code_challenge" in params and params.get("code_challenge_method") != "S256":
            return "Transform algorithm not supported."
        return None

    def _session(self, request: Request) -> tuple[Account, str] | None:
        username, form_token = self._sessions.get(request.cookies.get(_COOKIE, ""), ("", ""))
        with self._world.lock:
            account = self._accounts.active(username)
        return None if account is None else (account, form_token)

    def _log_in_page(self, query: str, error: str = "") -> Response:
        people = "".join(
            f"<li><b>{html.escape(each.username)}</b> {html.escape(each.description)}</li>"
            for each in self._accounts.everybody
        )
        said = f'<p role="alert">{html.escape(error)}</p>' if error else ""
        body = (
            f'{said}<form method="post" action="/accounts/login/"><input type="hidden" name="next" value="{html.escape(query)}">'
            '<label>Email address <input name="username" type="email" autocomplete="username" required></label>'
            '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
            "<button>Sign in</button></form>"
            "<p>This is a demo server with invented data. Its people, all with the password "
            f"<b>{PASSWORD}</b>:</p><ul>{people}</ul>"
        )
        return _page("Log in to the demo CommCare HQ", body)

    def _consent(self, request: Request, account: Account, form_token: str, spaces: Iterable[tuple[str, str]]) -> str:
        query = html.escape(request.url.query)
        boxes = "".join(
            f'<label><input type="checkbox" name="domain" value="{html.escape(name)}" checked> {html.escape(title)} '
            f"({html.escape(name)})</label>"
            for name, title in (spaces if self._switches.domain_picker else ())
        )
        return (
            f"<p>Signed in as {html.escape(account.username)}. The application asks for: access to the APIs of your "
            f'project spaces.</p><form method="post" action="{_PATH}?{query}">'
            f'<input type="hidden" name="token" value="{form_token}"><fieldset><legend>Project spaces</legend>{boxes}</fieldset>'
            '<p><button name="allow" value="Authorize">Authorize</button> '
            '<button name="cancel" value="Cancel">Cancel</button></p>'
            f'</form><form method="post" action="/accounts/logout/"><input type="hidden" name="next" value="{query}">'
            "<button>Use another account</button></form>"
        )


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(
        _PAGE.format(title=html.escape(title), body=body),
        status,
        headers={"Cache-Control": "no-store", "X-Frame-Options": "DENY"},
    )


def _to_client(redirect_uri: str, values: dict[str, str]) -> Response:
    separator = "&" if "?" in redirect_uri else "?"
    return RedirectResponse(f"{redirect_uri}{separator}{urlencode(values)}", 302)
