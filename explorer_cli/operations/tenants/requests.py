"""`explorer tenants requests`: what people have asked for, and the operator's answers."""

from typing import Literal

from explorer.catalog import Decision, TenantRequest, UnknownTenantRequest
from explorer_cli.output.escapes import visible
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store


def show_list(*, as_json: bool) -> int:
    """Show all requests, with the answers to them."""
    with open_store(open_settings()) as store:
        rows = [_row(each) for each in store.catalog.tenant_requests.list()]
    if as_json:
        answer_json({"requests": rows})
    else:
        columns = ("id", "title", "external_id", "server", "actor", "asked_at", "decision", "words")
        show_table(
            ("Id", "Title", "Project space", "Server", "Asked by", "Asked", "Answer", "Words"),
            [[row[column] or "" for column in columns] for row in rows],
            empty="Nobody has asked for a project space.",
        )
    return 0


def decide(id_: str, decision: Literal["approved", "refused"], words: str | None, *, as_json: bool) -> int:
    """Answer a request.

    Raises:
        UnknownTenantRequest: no request, or several, begin with `id_`.
    """
    with open_store(open_settings()) as store:
        requests = store.catalog.tenant_requests
        found = [each for each in requests.list() if str(each.id).startswith(id_.lower())]
        if len(found) != 1:
            raise UnknownTenantRequest(
                f"{'Several requests begin' if found else 'No request begins'} with {id_[:40]!r}.",
                next_step="`explorer tenants requests` lists them with their ids.",
            )
        decided = requests.decide(found[0].id, Decision(decision), words)
    if as_json:
        answer_json({"request": _row(decided)})
    elif decided.decision is Decision.APPROVED:
        say(
            ("Approved", "green"),
            f" {visible(decided.title)}: one of its administrators can register it when they sign in.",
        )
    else:
        say(f"Refused {visible(decided.title)}.")
    return 0


def _row(request: TenantRequest) -> dict[str, object]:
    return {
        "id": str(request.id),
        "title": request.title,
        "provider": request.provider,
        "server": request.server,
        "external_id": request.external_id,
        "actor": request.actor,
        "asked_at": request.asked_at,
        "decision": request.decision.value if request.decision else None,
        "words": request.words,
    }
