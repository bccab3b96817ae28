"""Which commands there are, with which arguments, and how errors leave the program. What they do lies in the modules they call.

Those are imported by the command that needs them: `explorer --help` must not wait for Dagster or a database driver.
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from explorer.core.errors import ExplorerError
from explorer.core.files import write_privately
from explorer.core.home import HomeNotUsable
from explorer_cli.errors import InternalError, UsageInvalid
from explorer_cli.output.terminal import show_error

app = typer.Typer(
    help="CommCare project spaces as queryable tables, for agents and people. `explorer demo` shows all of it on invented data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tenants_app = typer.Typer(help="CommCare project spaces that are kept here.", no_args_is_help=True)
tokens_app = typer.Typer(help="Bearer tokens with which agents reach the bridge.", no_args_is_help=True)
semantics_app = typer.Typer(help="What a tenant's tables mean, beyond what the pipeline says.", no_args_is_help=True)
db_app = typer.Typer(help="The platform's database.", no_args_is_help=True)
secrets_app = typer.Typer(help="The keys that encrypt stored credentials.", no_args_is_help=True)
app.add_typer(tenants_app, name="tenants")
app.add_typer(tokens_app, name="tokens")
app.add_typer(semantics_app, name="semantics")
app.add_typer(db_app, name="db")
app.add_typer(secrets_app, name="secrets")

_NOT_WRITABLE = frozenset({errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS})

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The tenant's key, such as www:my-domain.", show_default=False)]


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Sync, answer one question, stop.")] = False,
    as_json: Json = False,
) -> None:
    """Start everything, sync two invented project spaces, answer a question through the MCP bridge."""
    from explorer_cli.demo import run_demo

    raise typer.Exit(run_demo(once=once, as_json=as_json))


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything runs; it goes on in the background.")
    ] = False,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Without the demo CommCare server.")] = False,
    as_json: Json = False,
) -> None:
    """Start the database, Dagster and the MCP bridge, and keep them running."""
    from explorer_cli.operations import lifecycle

    start = lifecycle.up_detached if detach else lifecycle.up
    raise typer.Exit(start(demo=not no_demo, as_json=as_json))


@app.command()
def down(as_json: Json = False) -> None:
    """Stop everything, the database included. Does nothing when nothing runs."""
    from explorer_cli.operations import lifecycle

    raise typer.Exit(lifecycle.down(as_json=as_json))


@app.command()
def status(as_json: Json = False) -> None:
    """Addresses, process ids and health of each part. Exit status 0 only when all are healthy."""
    from explorer_cli.operations import lifecycle

    raise typer.Exit(lifecycle.status(as_json=as_json))


@app.command()
def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also try every tenant's credentials at its server.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look for what is wrong and say how to mend it. Exit status 1 when something is."""
    from explorer_cli.doctor import run_doctor

    raise typer.Exit(run_doctor(online=online, as_json=as_json))


@app.command()
def sync(
    key: Key,
    full: Annotated[bool, typer.Option("--full", help="Read everything again instead of what changed.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit status 1 if it fails.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a tenant's tables up to date (a Dagster run)."""
    from explorer_cli.operations.runs import run_sync

    raise typer.Exit(run_sync(key, full=full, wait=wait, as_json=as_json))


@app.command()
def query(
    key: Key,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT statement.", show_default=False)],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows to show at most.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a tenant's tables, the way agents do: same validator, same read-only login, same limits."""
    from explorer_cli.operations.runs import run_query

    raise typer.Exit(run_query(key, sql, limit=limit, as_json=as_json))


@tenants_app.command("add")
def tenants_add(
    key: Key,
    server: Annotated[str, typer.Option(help="CommCare server, such as https://www.commcarehq.org.")],
    external_id: Annotated[
        str, typer.Option("--domain", "--external-id", help="Name of the project space in its URL.")
    ],
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Kind of system; default: the only one that has pipelines.")
    ] = None,
    username: Annotated[str | None, typer.Option(help="User whom the API key belongs to.")] = None,
    api_key_env: Annotated[str | None, typer.Option(metavar="VAR", help="Variable that holds the API key.")] = None,
    oauth_client_id: Annotated[
        str | None, typer.Option(metavar="ID", help="OAuth client instead of an API key.")
    ] = None,
    oauth_client_secret_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Variable that holds its secret.")
    ] = None,
    oauth_refresh_token_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Variable that holds a refresh token.")
    ] = None,
    oauth_token_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Token endpoint; default: SERVER/oauth/token/.")
    ] = None,
    credential: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VAR", help="Variable that holds another field of the credential; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check access to a project space and make room for it. Secrets are read from variables, never from the command line."""
    from explorer_cli.tenants import CredentialOptions, add

    options = CredentialOptions.parse(
        {"username": username, "client_id": oauth_client_id, "token_url": oauth_token_url},
        {
            "api_key": api_key_env,
            "client_secret": oauth_client_secret_env,
            "refresh_token": oauth_refresh_token_env,
        },
        credential or (),
    )
    raise typer.Exit(
        add(
            key,
            provider_name=provider,
            server=server,
            external_id=external_id,
            options=options,
            as_json=as_json,
        )
    )


@tenants_app.command("list")
def tenants_list(as_json: Json = False) -> None:
    """Show the tenants."""
    from explorer_cli.tenants import show_list

    raise typer.Exit(show_list(as_json=as_json))


@tenants_app.command("remove")
def tenants_remove(
    key: Key,
    purge: Annotated[bool, typer.Option("--purge", help="Delete its tables, credentials and metadata too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a tenant away."""
    from explorer_cli.tenants import remove

    raise typer.Exit(remove(key, purge=purge, yes=yes, as_json=as_json))


@tenants_app.command("unblock")
def tenants_unblock(key: Key, as_json: Json = False) -> None:
    """Send requests again at once to a project space whose server has asked for none for a while (HTTP 429)."""
    from explorer_cli.tenants import unblock

    raise typer.Exit(unblock(key, as_json=as_json))


@tokens_app.command("create")
def tokens_create(
    name: Annotated[str, typer.Option(help="Who will use it; shown in the audit.")],
    tenant: Annotated[list[str], typer.Option(metavar="KEY", help="Tenant it may use; repeat for several.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="metadata:read, query:run, runs:launch, runs:cancel, schema:manage or semantics:write; repeat. "
            "Default: all but the last two.",
            show_default=False,
        ),
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days until it ends; default: never.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from explorer_cli.operations.tokens import create

    raise typer.Exit(create(name, tenants=tenant, scopes=scope, expires_days=expires_days, as_json=as_json))


@tokens_app.command("list")
def tokens_list(as_json: Json = False) -> None:
    """Show who has tokens for what."""
    from explorer_cli.operations.tokens import show_list

    raise typer.Exit(show_list(as_json=as_json))


@tokens_app.command("revoke")
def tokens_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)], as_json: Json = False
) -> None:
    """End a token at once."""
    from explorer_cli.operations.tokens import revoke

    raise typer.Exit(revoke(name, as_json=as_json))


@semantics_app.command("show")
def semantics_show(
    key: Key,
    as_json: Json = False,
) -> None:
    """Print the tenant's own entities, measures, synonyms, flags of personal data and example queries, as YAML."""
    from explorer_cli.operations.semantics import show

    raise typer.Exit(show(key, as_json=as_json))


@semantics_app.command("set")
def semantics_set(
    key: Key,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML; empty takes all away.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check a file and put it in force as the tenant's newest version; its SQL is tried as the tenant's reader."""
    from explorer_cli.operations.semantics import set_from

    raise typer.Exit(set_from(key, file, as_json=as_json))


@db_app.command("upgrade")
def db_upgrade(
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Also when another HOME set it up or the keys are lost: new passwords, and a new key if there is none. "
            "Whoever holds the old ones is locked out.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Set up the database server and bring the catalog to the current version."""
    from explorer_cli.operations.maintenance import upgrade_database

    raise typer.Exit(upgrade_database(take_over=take_over, as_json=as_json))


@secrets_app.command("rotate")
def secrets_rotate(as_json: Json = False) -> None:
    """Make a new key and encrypt all stored credentials with it."""
    from explorer_cli.operations.maintenance import rotate_secrets

    raise typer.Exit(rotate_secrets(as_json=as_json))


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status. Every error has been shown when this returns."""
    as_json = "--json" in arguments
    try:
        code = app(args=list(arguments), prog_name="explorer", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ExplorerError as error:
        show_error(error, as_json=as_json)
        return 1
    except TyperException as error:
        usage = UsageInvalid(error.format_message(), next_step=f"See `{_help_of(error)}`.")
        show_error(usage, as_json=as_json)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`explorer ... | head`): nothing is left to be said.
        sys.stderr.close()
        return 1
    except OSError as error:
        show_error(_of_the_system(error), as_json=as_json)
        return 1
    except Exception as error:
        show_error(_unforeseen(error), as_json=as_json)
        return 1


def main() -> None:
    """Console script `explorer`."""
    write_privately()
    sys.exit(run(sys.argv[1:]))


def _help_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'explorer'} --help"


def _of_the_system(error: OSError) -> ExplorerError:
    """No room, no rights: what the system says is the cause; everything else is unforeseen."""
    if error.errno not in _NOT_WRITABLE:
        return _unforeseen(error)
    where = f" ({error.filename})" if error.filename else ""
    return HomeNotUsable(
        f"A file cannot be written: {error.strerror}{where}.",
        next_step="Make room or give the account the right to write, then try again; EXPLORER_HOME chooses another folder.",
    )


def _unforeseen(error: Exception) -> InternalError:
    from explorer_cli.platform.context import record_traceback

    place = record_traceback(error)
    return InternalError(
        f"Something unforeseen went wrong: {type(error).__name__}.",
        next_step=f"The traceback is in {place}; run `explorer doctor`, and report it if that finds nothing."
        if place
        else "Run `explorer doctor`; the log could not be written.",
    )
