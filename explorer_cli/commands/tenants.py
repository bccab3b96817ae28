"""`explorer tenants`: add, list, remove and unblock tenants."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from explorer_cli.commands.options import Json, Key

app = typer.Typer(help="CommCare project spaces that are kept here.", no_args_is_help=True)
requests = typer.Typer(
    help="Project spaces that people have asked for when they signed in.", invoke_without_command=True
)
app.add_typer(requests, name="requests")

RequestId = Annotated[str, typer.Argument(metavar="ID", help="Id of the request, or its beginning.")]
Words = Annotated[str | None, typer.Option(help="Words for the person, shown when they sign in.")]


@app.command("add")
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
    from explorer_cli.operations.tenants.registering import CredentialOptions, add

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


@app.command("import")
def tenants_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with a header line, or a YAML list.", dir_okay=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and ask no server.")] = False,
    as_json: Json = False,
) -> None:
    """Add many tenants. Columns: key, server, domain, username, api_key_env (the key's variable), and others of `add`."""
    from explorer_cli.operations.tenants.from_file import import_file

    raise typer.Exit(import_file(file, dry_run=dry_run, as_json=as_json))


@app.command("schedule")
def tenants_schedule(
    key: Key,
    cron: Annotated[str | None, typer.Option(help="When to look for news, five fields: '0 */2 * * *'.")] = None,
    full_refresh_cron: Annotated[str | None, typer.Option(help="When to read everything again.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Time zone of both, such as Asia/Kolkata.")] = None,
    stopped: Annotated[
        bool | None, typer.Option("--stop/--start", help="Whether anything starts by itself.", show_default=False)
    ] = None,
    requests_per_day: Annotated[
        int | None, typer.Option(min=1, help="What its server allows; looks for news take a tenth at most.")
    ] = None,
    fresh_within_minutes: Annotated[
        int | None, typer.Option(min=1, help="Target: how long ago its server may have been asked for news.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the pipeline's own schedule first.")] = False,
    pipeline: Annotated[str, typer.Option(help="Which of the tenant's pipelines; default: the first.")] = "",
    as_json: Json = False,
) -> None:
    """Show or change when a tenant is updated by itself."""
    from explorer_cli.operations.tenants.schedules import schedule

    given = {
        "cron": cron,
        "full_refresh_cron": full_refresh_cron,
        "timezone": timezone,
        "stopped": stopped,
        "requests_per_day": requests_per_day,
        "fresh_within_minutes": fresh_within_minutes,
    }
    raise typer.Exit(schedule(key, pipeline, given, reset=reset, as_json=as_json))


@app.command("quota")
def tenants_quota(
    key: Key,
    runs: Annotated[int | None, typer.Option(min=0, help="Runs in a day; 0: any number.")] = None,
    requests_: Annotated[
        int | None, typer.Option("--requests", min=0, help="Requests to its server in a day; 0: any number.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=0, help="Rows loaded in a day; 0: any number.")] = None,
    bytes_: Annotated[
        int | None, typer.Option("--bytes", min=0, help="Bytes received in a day; 0: any number.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the settings' quotas first, and a new day.")] = False,
    as_json: Json = False,
) -> None:
    """Show or change how much a tenant may load in a day, and show what it has used."""
    from explorer_cli.operations.tenants.quotas import quota

    given = {"runs": runs, "requests": requests_, "rows": rows, "bytes": bytes_}
    raise typer.Exit(quota(key, given, reset=reset, as_json=as_json))


@app.command("personal-data")
def tenants_personal_data(
    key: Key,
    policy: Annotated[
        Literal["mark", "refuse", "mask"] | None,
        typer.Argument(help="Without it: show what holds.", show_default=False),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to EXPLORER_PERSONAL_DATA.")] = False,
    as_json: Json = False,
) -> None:
    """Show or set what agents may do with columns that hold personal data."""
    from explorer_cli.operations.tenants.personal_data import personal_data

    raise typer.Exit(personal_data(key, policy, reset=reset, as_json=as_json))


@app.command("list")
def tenants_list(as_json: Json = False) -> None:
    """Show the tenants, when their turn comes and what holds them back."""
    from explorer_cli.operations.tenants.registering import show_list

    raise typer.Exit(show_list(as_json=as_json))


@app.command("remove")
def tenants_remove(
    key: Key,
    purge: Annotated[bool, typer.Option("--purge", help="Delete its tables, credentials and metadata too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a tenant away."""
    from explorer_cli.operations.tenants.registering import remove

    raise typer.Exit(remove(key, purge=purge, yes=yes, as_json=as_json))


@app.command("unblock")
def tenants_unblock(key: Key, as_json: Json = False) -> None:
    """Send requests again at once to a project space whose server has asked for none for a while (HTTP 429), or that is held back
    because its runs failed."""
    from explorer_cli.operations.tenants.registering import unblock

    raise typer.Exit(unblock(key, as_json=as_json))


@requests.callback()
def requests_list(context: typer.Context, as_json: Json = False) -> None:
    """Show them, without a further command."""
    from explorer_cli.operations.tenants.requests import show_list

    if context.invoked_subcommand is None:
        raise typer.Exit(show_list(as_json=as_json))


@requests.command("approve")
def requests_approve(id_: RequestId, words: Words = None, as_json: Json = False) -> None:
    """Let an administrator of the project space register it when they sign in."""
    from explorer_cli.operations.tenants.requests import decide

    raise typer.Exit(decide(id_, "approved", words, as_json=as_json))


@requests.command("refuse")
def requests_refuse(id_: RequestId, words: Words = None, as_json: Json = False) -> None:
    """Say no."""
    from explorer_cli.operations.tenants.requests import decide

    raise typer.Exit(decide(id_, "refused", words, as_json=as_json))
