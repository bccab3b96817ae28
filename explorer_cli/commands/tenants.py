"""`explorer tenants`: add, list, remove and unblock tenants."""

from typing import Annotated

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
    from explorer_cli.operations.tenants import CredentialOptions, add

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


@app.command("list")
def tenants_list(as_json: Json = False) -> None:
    """Show the tenants."""
    from explorer_cli.operations.tenants import show_list

    raise typer.Exit(show_list(as_json=as_json))


@app.command("remove")
def tenants_remove(
    key: Key,
    purge: Annotated[bool, typer.Option("--purge", help="Delete its tables, credentials and metadata too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a tenant away."""
    from explorer_cli.operations.tenants import remove

    raise typer.Exit(remove(key, purge=purge, yes=yes, as_json=as_json))


@app.command("unblock")
def tenants_unblock(key: Key, as_json: Json = False) -> None:
    """Send requests again at once to a project space whose server has asked for none for a while (HTTP 429)."""
    from explorer_cli.operations.tenants import unblock

    raise typer.Exit(unblock(key, as_json=as_json))


@requests.callback()
def requests_list(context: typer.Context, as_json: Json = False) -> None:
    """Show them, without a further command."""
    from explorer_cli.operations.tenant_requests import show_list

    if context.invoked_subcommand is None:
        raise typer.Exit(show_list(as_json=as_json))


@requests.command("approve")
def requests_approve(id_: RequestId, words: Words = None, as_json: Json = False) -> None:
    """Let an administrator of the project space register it when they sign in."""
    from explorer_cli.operations.tenant_requests import decide

    raise typer.Exit(decide(id_, "approved", words, as_json=as_json))


@requests.command("refuse")
def requests_refuse(id_: RequestId, words: Words = None, as_json: Json = False) -> None:
    """Say no."""
    from explorer_cli.operations.tenant_requests import decide

    raise typer.Exit(decide(id_, "refused", words, as_json=as_json))
