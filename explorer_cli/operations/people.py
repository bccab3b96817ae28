"""`explorer people` and `explorer clients`: who signed in, and which programs may act for them."""

from explorer_cli.operations.tenants.workspaces import follow_rights
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store


def show_people(*, as_json: bool) -> int:
    """Show everybody who ever signed in."""
    with open_store(open_settings()) as store:
        people = store.catalog.identities.list()
    if as_json:
        rows = [
            {
                "name": person.name,
                "provider": person.identity.provider,
                "username": person.identity.username,
                "rights": person.rights,
                "clients": person.clients,
                "signed_in_at": person.signed_in_at,
                "checked_at": person.checked_at,
                "blocked_at": person.blocked_at,
            }
            for person in people
        ]
        answer_json({"people": rows})
        return 0
    show_table(
        ("Name", "May use", "Programs", "Signed in", "Checked", "Blocked"),
        [
            (
                person.name,
                "\n".join(f"{key}: {', '.join(sorted(scopes))}" for key, scopes in sorted(person.rights.items())),
                "\n".join(person.clients),
                person.signed_in_at,
                person.checked_at,
                person.blocked_at or "no",
            )
            for person in people
        ],
        empty="Nobody has signed in yet.",
    )
    return 0


def revoke(name: str, *, block: bool, as_json: bool) -> int:
    """End all that was granted to a person."""
    with open_store(open_settings()) as store:
        ended = store.catalog.identities.revoke(name, block=block)
        follow_rights(store)
    if as_json:
        answer_json({"revoked": name, "grants": ended, "blocked": block})
    else:
        say(f"Ended {ended} grants of {name}{'; they cannot sign in again' if block else ''}.")
    return 0


def allow(name: str, *, as_json: bool) -> int:
    """Let a person sign in again."""
    with open_store(open_settings()) as store:
        store.catalog.identities.allow(name)
    if as_json:
        answer_json({"allowed": name})
    else:
        say(f"{name} may sign in.")
    return 0


def show_clients(*, as_json: bool) -> int:
    """Show all known programs."""
    with open_store(open_settings()) as store:
        clients = store.catalog.oauth_clients.list()
    if as_json:
        rows = [
            {
                "client_id": row.client.client_id,
                "kind": row.client.kind,
                "name": row.client.name,
                "redirect_uris": row.client.redirect_uris,
                "people": row.people,
                "created_at": row.created_at,
                "last_used_at": row.last_used_at,
                "blocked_at": row.blocked_at,
            }
            for row in clients
        ]
        answer_json({"clients": rows})
        return 0
    show_table(
        ("Name", "Id", "Kind", "People", "Last used", "Blocked"),
        [
            (
                row.client.name,
                row.client.client_id,
                row.client.kind,
                row.people,
                row.last_used_at or "never",
                row.blocked_at or "no",
            )
            for row in clients
        ],
        empty="No program has asked for access yet.",
    )
    return 0


def block(client_id: str, *, as_json: bool) -> int:
    """Refuse a program."""
    with open_store(open_settings()) as store:
        ended = store.catalog.oauth_clients.block(client_id)
    if as_json:
        answer_json({"blocked": client_id, "grants": ended})
    else:
        say(f"Blocked {client_id} and ended {ended} grants.")
    return 0


def unblock(client_id: str, *, as_json: bool) -> int:
    """Accept a program again."""
    with open_store(open_settings()) as store:
        store.catalog.oauth_clients.unblock(client_id)
    if as_json:
        answer_json({"unblocked": client_id})
    else:
        say(f"{client_id} may be connected.")
    return 0
