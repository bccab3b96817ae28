"""`explorer db upgrade` and `explorer secrets rotate`: rare maintenance tasks."""

from functools import partial

from explorer.catalog.audit.log import change
from explorer.installation import set_up
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.database import database_facts
from explorer_cli.platform.store import open_store


def upgrade_database(*, take_over: bool, as_json: bool) -> int:
    """Bootstrap the server and migrate the catalog; does nothing when both are current.

    `take_over`: also do this for an installation that another HOME set up; that HOME then loses access.
    """
    settings = open_settings()
    with open_store(settings, partial(set_up, take_over=take_over)) as store:
        facts = database_facts(settings)
        if take_over:
            store.catalog.audit.append(change("take_over"))
    if as_json:
        answer_json({"database": facts, "current": True})
    else:
        say(f"The database {facts['name']} at {facts['host']}:{facts['port']} is set up and current.")
    return 0


def rotate_secrets(*, as_json: bool) -> int:
    """Encrypt every stored secret with a new key."""
    settings = open_settings()
    with open_store(settings) as store:
        count = store.catalog.rotate_keys()
    if as_json:
        answer_json({"reencrypted": count})
    else:
        say(f"{count} stored secrets are encrypted with the new key.")
    return 0
