"""The ASGI application and its routes.

Each resource has two addresses (`/a/{domain}/api/v0.5/{resource}/` and `/a/{domain}/api/{resource}/v1/`). Every request
passes three steps: access check, throttle, answer under the world's lock.
"""

import secrets
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from demo_commcare import cases_api, forms_api, ucr_api
from demo_commcare import resources_api as small
from demo_commcare.auth import Access, Style
from demo_commcare.control import Control, ControlEndpoint
from demo_commcare.faults import AnswerSwitches, FaultyApp
from demo_commcare.records import json_bytes
from demo_commcare.sign_in import oauth
from demo_commcare.sign_in.accounts import Accounts
from demo_commcare.sign_in.consent import ConsentPages
from demo_commcare.sign_in.oauth import Grant, TokenStore
from demo_commcare.tastypie import BadRequest, json_response
from demo_commcare.throttle import Throttle
from demo_commcare.world import DEMO_USERNAME, Project, Truth, World

Endpoint = Callable[[Request], Awaitable[Response]]
Answer = Callable[[Request, Project], Response]
_PAGE = "<!DOCTYPE html><html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>"


class DemoCommCare:
    """The ASGI application with its world and switches.

    `api_key` is random by default. `/_demo/` exists only with a `control_token`.
    """

    username = DEMO_USERNAME

    def __init__(
        self,
        api_key: str | None = None,
        control_token: str | None = None,
        seed: int = 1,
        cases: int | None = None,
        access_token_lifetime_s: float = 900.0,
        client_secret: str | None = None,
    ) -> None:
        self.world = World(seed, cases)
        self.api_key = api_key or secrets.token_hex(20)
        self._switches = AnswerSwitches()
        self._throttle = Throttle()
        self._accounts = Accounts(self.world)
        self._tokens = TokenStore(self._accounts, access_token_lifetime_s, client_secret)
        self._access = Access(self.world, self._accounts, self._tokens, {self.username: self.api_key})
        self._control_token = control_token
        router = Starlette(exception_handlers={404: _html_404})
        router.router.redirect_slashes = False
        self._faulty = FaultyApp(router)
        self.control = Control(self.world, self._access, self._throttle, self._faulty, self._switches)
        router.router.routes.extend(self._routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._faulty(scope, receive, send)

    def truth(self, domain: str) -> Truth:
        """The complete present content of a project space."""
        return self.world.truth(domain)

    def _routes(self) -> list[Route]:
        routes = [*self._case_routes(), *self._form_routes(), *self._small_routes(), *self._global_routes()]
        if self._control_token:
            endpoint = ControlEndpoint(self.control, self.world, self._control_token)
            routes.append(Route("/_demo/control", endpoint.act, methods=["POST"]))
            routes.append(Route("/_demo/truth/{domain}/{resource}", endpoint.truth))
        return routes

    def _case_routes(self) -> list[Route]:
        def listing(request: Request, project: Project) -> Response:
            return cases_api.case_list(request, project, self._switches, root(request))

        def older(request: Request, project: Project) -> Response:
            return cases_api.case_list_v1(request, project, self._switches)

        view: Style = "view"
        routes = []
        for base in ("/a/{domain}/api/case/v2", "/a/{domain}/api/v0.6/case"):
            bulk, external, many = f"{base}/bulk-fetch/", f"{base}/ext/{{external_id}}/", f"{base}/{{case_ids}}"
            routes.append(Route(bulk, self._bulk_fetch, methods=["POST"]))
            routes.append(Route(external, self._guard("case", cases_api.case_by_external_id, view), methods=["GET"]))
            for path in (base, f"{base}/"):
                routes.append(Route(path, self._guard("case", listing, view), methods=["GET"]))
            for path in (many, f"{many}/"):
                routes.append(Route(path, self._guard("case", cases_api.case_detail, view), methods=["GET"]))
            routes.append(Route(f"{base}/{{rest:path}}", _not_allowed, methods=["PUT", "DELETE", "PATCH", "POST"]))
        return [*routes, *self._both("case", older)]

    def _form_routes(self) -> list[Route]:
        def listing(request: Request, project: Project) -> Response:
            return forms_api.form_list(request, project, self._switches, root(request))

        def detail(request: Request, project: Project) -> Response:
            return forms_api.form_detail(request, project, root(request))

        attachment = self._guard("form_attachment", forms_api.form_attachment)
        return [
            Route("/a/{domain}/api/form_attachment/v1/{form_id}/{name}", attachment, methods=["GET"]),
            Route("/a/{domain}/api/form/attachment/{form_id}/{name}", attachment, methods=["GET"]),
            *self._both("form", listing),
            *self._both("form", detail, "{form_id}/"),
        ]

    def _small_routes(self) -> list[Route]:
        switched = {
            "application": small.applications,
            "user": small.users,
            "web-user": small.web_users,
            "group": small.groups,
            "lookup_table_item": small.lookup_table_items,
            "fixture": small.fixtures,
            "domain_cases": small.domain_cases,
            "domain_forms": small.domain_forms,
            "ucr_data_source": ucr_api.data_sources,
        }
        rooted = {
            "location": small.locations_v1,
            "location_type": small.location_types,
            "lookup_table": small.lookup_tables,
        }
        rooted_details = {
            "location": small.location_detail_v1,
            "location_type": small.location_type_detail,
            "lookup_table": small.lookup_table_detail,
        }
        details = {
            "application": small.application_detail,
            "lookup_table_item": small.lookup_table_item_detail,
            "user": small.user_detail,
            "web-user": small.web_user_detail,
            "group": small.group_detail,
            "ucr_data_source": ucr_api.data_source_detail,
        }
        routes = []
        for name, listing in switched.items():
            routes += self._both(name, self._switched(listing))
        for name, placed in rooted.items():
            routes += self._both(name, self._rooted(placed))
        for name, detail in details.items():
            routes += self._both(name, detail, "{doc_id}/")
        for name, shown in rooted_details.items():
            routes += self._both(name, self._rooted_detail(shown), "{doc_id}/")
        routes += self._both("ucr", self._rooted(ucr_api.rows), style="view")
        return [*routes, *self._second_versions()]

    def _switched(self, listing: Callable[[Request, Project, AnswerSwitches], Response]) -> Answer:
        return lambda request, project: listing(request, project, self._switches)

    def _rooted(self, listing: Callable[[Request, Project, AnswerSwitches, str], Response]) -> Answer:
        return lambda request, project: listing(request, project, self._switches, root(request))

    def _rooted_detail(self, shown: Callable[[Request, Project, str], Response]) -> Answer:
        return lambda request, project: shown(request, project, root(request))

    def _second_versions(self) -> list[Route]:
        locations = self._guard(
            "location", lambda request, project: small.locations_v2(request, project, self._switches)
        )
        detail = self._guard("location", small.location_detail_v2)
        items = self._guard(
            "lookup_table_item", lambda request, project: small.lookup_table_items(request, project, self._switches)
        )
        item = self._guard("lookup_table_item", small.lookup_table_item_detail)
        return [
            Route("/a/{domain}/api/location/v2/", locations, methods=["GET"]),
            Route("/a/{domain}/api/v0.6/location/", locations, methods=["GET"]),
            Route("/a/{domain}/api/location/v2/{doc_id}/", detail, methods=["GET"]),
            Route("/a/{domain}/api/v0.6/location/{doc_id}/", detail, methods=["GET"]),
            Route("/a/{domain}/api/lookup_table_item/v2/", items, methods=["GET"]),
            Route("/a/{domain}/api/v0.6/lookup_table_item/", items, methods=["GET"]),
            Route("/a/{domain}/api/lookup_table_item/v2/{doc_id}/", item, methods=["GET"]),
            Route("/a/{domain}/api/v0.6/lookup_table_item/{doc_id}/", item, methods=["GET"]),
        ]

    def _global_routes(self) -> list[Route]:
        async def token(request: Request) -> Response:
            return await oauth.token_endpoint(request, self._tokens)

        async def revoke(request: Request) -> Response:
            return await oauth.revoke_endpoint(request, self._tokens)

        async def metadata(request: Request) -> Response:
            return JSONResponse(oauth.metadata(root(request)))

        domains = self._guard_global(
            lambda request, caller: small.user_domains(request, self._accounts, caller, self._switches)
        )
        identity = self._guard_global(lambda _, caller: small.identity(self._accounts.get(caller.username)))
        routes = [
            *ConsentPages(self.world, self._accounts, self._tokens, self._switches).routes(),
            Route("/oauth/token/", token, methods=["POST"]),
            Route("/oauth/revoke_token/", revoke, methods=["POST"]),
            Route("/.well-known/oauth-authorization-server", metadata, methods=["GET"]),
        ]
        for name, endpoint in (("user_domains", domains), ("identity", identity)):
            routes.append(Route(f"/api/{name}/v1/", endpoint, methods=["GET"]))
            routes.append(Route(f"/api/v0.5/{name}/", endpoint, methods=["GET"]))
        return routes

    def _both(self, resource: str, answer: Answer, tail: str = "", style: Style = "tastypie") -> list[Route]:
        """The two addresses of a resource."""
        endpoint = self._guard(resource, answer, style)
        return [
            Route(f"/a/{{domain}}/api/v0.5/{resource}/{tail}", endpoint, methods=["GET"]),
            Route(f"/a/{{domain}}/api/{resource}/v1/{tail}", endpoint, methods=["GET"]),
        ]

    def _guard(self, resource: str, answer: Answer, style: Style = "tastypie") -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return self._answer(request, resource, answer, style)

        return endpoint

    def _answer(self, request: Request, resource: str, answer: Answer, style: Style) -> Response:
        domain = request.path_params["domain"]
        with self.world.lock:
            refusal = self._access.refuse(request, domain, resource, style) or self._throttle.refuse(domain)
            if refusal is not None:
                return refusal
            return _or_400(lambda: answer(request, self.world.projects[domain]))

    def _guard_global(self, answer: Callable[[Request, Grant], Response]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            with self.world.lock:
                caller = self._access.caller(request)
                if caller is None:
                    return PlainTextResponse("Username or API Key is incorrect, expired or deactivated", 401)
                return _or_400(lambda: answer(request, caller))

        return endpoint

    async def _bulk_fetch(self, request: Request) -> Response:
        body = await request.body()
        return self._answer(request, "case", lambda _request, project: cases_api.bulk_fetch(body, project), "view")


def root(request: Request) -> str:
    """`scheme://host:port` as the client addressed the server."""
    return str(request.base_url).rstrip("/")


def _or_400(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except BadRequest as error:
        return json_response(json_bytes({"error": str(error)}), status=400)


async def _not_allowed(_request: Request) -> Response:
    return JSONResponse({"error": "Request method not allowed"}, 405)


async def _html_404(_request: Request, _error: Exception) -> Response:
    return HTMLResponse(_PAGE, 404)
