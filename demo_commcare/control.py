"""The switches of a test.

`Control` changes the world and the server's behaviour from Python; `/_demo/` offers the same over HTTP with the control
token. Every public method of `Control` named in `ACTIONS` is an action with the same arguments.
"""

import hmac
import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_commcare.auth import Access
from demo_commcare.faults import AnswerSwitches, EventRule, FaultRule, FaultyApp, Kind, SeenRequest
from demo_commcare.records import json_bytes
from demo_commcare.tastypie import json_response
from demo_commcare.throttle import Throttle, hq_limits
from demo_commcare.world import DEMO_USERNAME, FEATURES, TRUTH_RESOURCES, Truth, UnknownDocument, World

ACTIONS = (
    "fail", "before", "clear_faults", "set_latency", "throttle", "throttle_like_hq", "no_throttle", "expire_access_tokens",
    "revoke_refresh_tokens", "issue_refresh_token", "set_access_token_lifetime", "deny", "allow", "cut_off", "restore",
    "set_subscription", "set_feature", "set_switches", "create_case", "update_case", "update_every_nth_case", "close_case",
    "delete_case", "archive_form", "unarchive_form", "edit_form", "delete_form", "delete_record", "deactivate_user",
    "reactivate_user", "issue_api_key", "deactivate_account", "reactivate_account", "remove_member", "add_member", "set_role",
    "register_redirect_uri", "add_question", "set_applications", "set_index_lag", "settle_index", "reindex",
)  # fmt: skip


class Control:
    """All switches of one server. Safe to call from any thread."""

    def __init__(
        self, world: World, access: Access, throttle: Throttle, faults: FaultyApp, switches: AnswerSwitches
    ) -> None:
        self._world, self._access, self._throttle, self._faults = world, access, throttle, faults
        self.switches = switches

    @property
    def requests(self) -> list[SeenRequest]:
        """The requests so far (the newest 20 000), without headers."""
        return list(self._faults.seen)

    def truth(self, domain: str) -> Truth:
        return self._world.truth(domain)

    def fail(
        self,
        pattern: str,
        kind: Kind = "status",
        times: int = 1,
        skip: int = 0,
        status: int = 500,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 1.0,
        megabytes: int = 256,
        rows: int = 1,
    ) -> None:
        """Break the next `times` requests whose path and query match the regular expression; see `FaultRule`."""
        rule = FaultRule(pattern, kind, times, skip, status, body, dict(headers or {}), seconds, megabytes, rows)
        self._faults.rules.append(rule)

    def before(self, pattern: str, order: Mapping[str, Any], times: int = 1, skip: int = 0) -> None:
        """Carry out an order such as `{"action": "close_case", "domain": ..., "case_id": ...}` before the next `times` matching
        requests are answered, after letting `skip` pass: the world changes between two pages of a list."""
        self._faults.events.append(EventRule(pattern, self._bound(order), times, skip))

    def act(self, order: Mapping[str, Any]) -> Any:
        """Carry out `order`. Raises ValueError or TypeError for an invalid order, and UnknownDocument."""
        return self._bound(order)()

    def _bound(self, order: Mapping[str, Any]) -> Callable[[], Any]:
        arguments = dict(order)
        action = arguments.pop("action", None)
        if action not in ACTIONS:
            raise ValueError(f"unknown action {action}")
        method = getattr(self, action)
        inspect.signature(method).bind(**arguments)
        return lambda: method(**arguments)

    def clear_faults(self) -> None:
        """Forget all rules of `fail` and `before`."""
        self._faults.rules.clear()
        self._faults.events.clear()

    def set_latency(self, seconds: float, per_row_s: float = 0.0) -> None:
        """Set the delay before every API answer, and the extra delay for each of its rows."""
        self._faults.latency_s, self._faults.row_latency_s = seconds, per_row_s

    def throttle(self, limits: Mapping[str, float], retry_after: float | str | None = None) -> None:
        """Set limits such as `{"second": 5, "minute": 50}`; `retry_after`: None (true float), a number or text, or "absent"."""
        self._throttle.configure(limits, retry_after)

    def throttle_like_hq(self, workers: int = 10) -> None:
        self._throttle.configure(hq_limits(workers))

    def no_throttle(self) -> None:
        self._throttle.configure({})

    def register_redirect_uri(self, uri: str) -> None:
        """The application may send people there, as when a superuser of HQ adds the address to it."""
        self._access.tokens.redirect_uris.add(uri)

    def expire_access_tokens(self) -> None:
        self._access.tokens.expire_access_tokens()

    def revoke_refresh_tokens(self) -> None:
        self._access.tokens.revoke_refresh_tokens()

    def issue_refresh_token(self, domains: list[str] | None = None, username: str = DEMO_USERNAME) -> str:
        """Issue a refresh token for a person, limited to `domains` if given."""
        return self._access.tokens.issue_refresh_token(*(domains or ()), username=username)

    def issue_api_key(self, username: str) -> str:
        """Issue an API key of a person. It replaces the one of before."""
        with self._world.lock:
            key = self._access.api_keys[self._access.accounts.get(username).username] = secrets.token_hex(20)
        return key

    def deactivate_account(self, username: str) -> None:
        """End a person's account: log-in, tokens and renewals are refused from now on."""
        with self._world.lock:
            self._access.accounts.get(username).is_active = False

    def reactivate_account(self, username: str) -> None:
        with self._world.lock:
            self._access.accounts.get(username).is_active = True

    def remove_member(self, domain: str, username: str) -> None:
        """Remove a person from a project space."""
        with self._world.lock:
            self._access.accounts.remove_member(domain, username)

    def add_member(self, domain: str, username: str) -> None:
        """Make a person a member of a project space, in their role of before if they had one."""
        with self._world.lock:
            self._access.accounts.add_member(domain, username)

    def set_role(
        self,
        domain: str,
        username: str,
        role: str,
        is_admin: bool = False,
        permissions: Mapping[str, bool] | None = None,
    ) -> None:
        """Change a web user's role; `permissions` replaces those it names."""
        with self._world.lock:
            self._access.accounts.set_role(domain, username, role, is_admin, permissions or {})

    def set_access_token_lifetime(self, seconds: float) -> None:
        """Set the lifetime of tokens issued from now on."""
        self._access.tokens.access_lifetime_s = seconds

    @property
    def oauth_client(self) -> tuple[str, str]:
        """Client id and client secret."""
        return self._access.tokens.client_id, self._access.tokens.client_secret

    def deny(self, domain: str, resource: str) -> None:
        """Remove the permission for one resource, named as in the URL (`case`, `form`, `user`, `location` ...)."""
        self._access.denied.add((domain, resource))

    def allow(self, domain: str, resource: str) -> None:
        self._access.denied.discard((domain, resource))

    def cut_off(self, domain: str) -> None:
        """Refuse the domain with a 401, as HQ's rate limit for API use does."""
        self._access.cut_off.add(domain)

    def restore(self, domain: str) -> None:
        self._access.cut_off.discard(domain)

    def set_subscription(self, domain: str, subscribed: bool) -> None:
        self._world.projects[domain].subscribed = subscribed

    def set_switches(self, **switches: Any) -> None:
        """Set fields of `AnswerSwitches`: old_page_end, next_host, drop_collection, endless_paging, user_domains_paged,
        user_domains_of_token, domain_picker, deep_offset_limit."""
        for name, value in switches.items():
            if name not in asdict(self.switches):
                raise ValueError(f"unknown switch {name}; known: {', '.join(asdict(self.switches))}")
            setattr(self.switches, name, value)

    def set_feature(self, domain: str, feature: str, on: bool) -> None:
        """Switch `user_configurable_reports` (data sources) or `export_data_source_data` (their rows)."""
        if feature not in FEATURES:
            raise ValueError(f"unknown feature {feature}; known: {', '.join(FEATURES)}")
        features = self._world.projects[domain].features
        features.add(feature) if on else features.discard(feature)

    def create_case(
        self, domain: str, case_type: str, name: str, properties: dict[str, str], parent_id: str | None = None
    ) -> str:
        """Create a case; returns its id."""
        with self._world.lock:
            return self._world.projects[domain].create_case(case_type, name, properties, parent_id)

    def update_case(self, domain: str, case_id: str, properties: dict[str, str]) -> str:
        """Change a case; returns the id of the system form that did it."""
        with self._world.lock:
            return self._world.projects[domain].update_case(case_id, properties)

    def update_every_nth_case(self, domain: str, nth: int, properties: dict[str, str]) -> int:
        """Change every nth case like a mass import, with submissions of 1,000 cases each; returns the number of changed cases."""
        with self._world.lock:
            return self._world.projects[domain].update_every_nth_case(nth, properties)

    def close_case(self, domain: str, case_id: str) -> str:
        with self._world.lock:
            return self._world.projects[domain].close_case(case_id)

    def delete_case(self, domain: str, case_id: str) -> None:
        with self._world.lock:
            self._world.projects[domain].delete_case(case_id)

    def archive_form(self, domain: str, form_id: str) -> None:
        with self._world.lock:
            self._world.projects[domain].archive_form(form_id)

    def unarchive_form(self, domain: str, form_id: str) -> None:
        with self._world.lock:
            self._world.projects[domain].archive_form(form_id, archived=False)

    def edit_form(self, domain: str, form_id: str, changes: dict[str, str]) -> None:
        """Set answers by path, such as `{"exam/weight_kg": "61.5"}`; the cases change with them."""
        with self._world.lock:
            self._world.projects[domain].edit_form(form_id, changes)

    def delete_form(self, domain: str, form_id: str) -> None:
        with self._world.lock:
            self._world.projects[domain].delete_form(form_id)

    def delete_record(self, domain: str, resource: str, record_id: str) -> None:
        """Delete one record of a small resource: `users`, `groups`, `locations` or another list of `People`."""
        with self._world.lock:
            self._world.projects[domain].delete_record(resource, record_id)

    def deactivate_user(self, domain: str, user_id: str) -> None:
        with self._world.lock:
            self._world.projects[domain].set_user_active(user_id, active=False)

    def reactivate_user(self, domain: str, user_id: str) -> None:
        with self._world.lock:
            self._world.projects[domain].set_user_active(user_id, active=True)

    def add_question(self, domain: str, app_id: str, form_xmlns: str, name: str, question_type: str = "Text") -> int:
        """Add a question to a form; returns the application's new version."""
        with self._world.lock:
            return self._world.projects[domain].add_question(app_id, form_xmlns, name, question_type)

    def set_applications(self, domain: str, applications: list[dict[str, Any]]) -> None:
        """Replace the answer of the application list, in the shape of the API; submissions do not change."""
        with self._world.lock:
            self._world.projects[domain].set_applications(applications)

    def set_index_lag(self, domain: str, seconds: float) -> None:
        """Set how long changes of cases and forms stay out of the lists."""
        with self._world.lock:
            self._world.projects[domain].set_index_lag(seconds)

    def settle_index(self, domain: str) -> None:
        """Index all waiting changes now."""
        with self._world.lock:
            self._world.projects[domain].settle_index()

    def reindex(self, domain: str, one_instant: bool = False) -> None:
        """Give every case and form a new `indexed_on`; with `one_instant` they all share one millisecond."""
        with self._world.lock:
            self._world.projects[domain].reindex(one_instant)


class ControlEndpoint:
    """`/_demo/` over HTTP: `POST /_demo/control` and `GET /_demo/truth/{domain}/{resource}`."""

    def __init__(self, control: Control, world: World, token: str) -> None:
        self._control, self._world, self._token = control, world, token

    async def act(self, request: Request) -> Response:
        """`{"action": name, ...arguments}` gives `{"result": value}`; errors are 400 with `{"error": text}`."""
        if not self._permitted(request):
            return JSONResponse({"error": "control token required"}, 401)
        try:
            return JSONResponse({"result": self._control.act(await request.json())})
        except (ValueError, KeyError, AttributeError, TypeError, UnknownDocument) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)

    async def truth(self, request: Request) -> Response:
        """`{"count", "objects"}`; `?count_only=1` leaves the objects out."""
        domain, resource = request.path_params["domain"], request.path_params["resource"]
        if not self._permitted(request):
            return JSONResponse({"error": "control token required"}, 401)
        if domain not in self._world.projects or resource not in TRUTH_RESOURCES:
            return JSONResponse({"error": "unknown domain or resource"}, 404)
        with self._world.lock:
            truth = self._world.truth(domain)
            if "count_only" in request.query_params and resource in {"cases", "forms"}:
                return JSONResponse({"count": truth.case_count if resource == "cases" else truth.form_count})
            objects = getattr(truth, resource)
        return json_response(json_bytes({"count": len(objects), "objects": objects}))

    def _permitted(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self._token.encode())
