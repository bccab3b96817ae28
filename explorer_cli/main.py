"""The program `explorer`: collects the commands and shows their errors.

Each command imports its operation when it runs: `explorer --help` must not wait for Dagster or a database driver.
"""

import errno
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from explorer.core.errors import ExplorerError
from explorer.core.files import write_privately
from explorer.core.home import HomeNotUsable
from explorer_cli.commands import (
    audit,
    dbt,
    dictionary,
    limits,
    maintenance,
    models,
    people,
    platform,
    runs,
    semantics,
    tenants,
    tokens,
    workspaces,
)
from explorer_cli.errors import InternalError, UsageInvalid
from explorer_cli.output.terminal import show_error

app = typer.Typer(
    help="CommCare project spaces as queryable tables, for agents and people. `explorer demo` shows all of it on invented data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    platform.demo,
    platform.up,
    platform.ui,
    platform.down,
    platform.status,
    platform.metrics,
    maintenance.backup,
    maintenance.restore,
    platform.doctor,
    runs.sync,
    runs.query,
    dictionary.dictionary,
    runs.export,
):
    app.command()(_command)
app.command(context_settings={"ignore_unknown_options": True})(dbt.dbt)
for _name, _group in {
    "tenants": tenants.app,
    "runs": runs.app,
    "tokens": tokens.app,
    "people": people.people_app,
    "clients": people.clients_app,
    "semantics": semantics.app,
    "models": models.app,
    "workspaces": workspaces.app,
    "limits": limits.app,
    "audit": audit.app,
    "db": maintenance.db_app,
    "secrets": maintenance.secrets_app,
}.items():
    app.add_typer(_group, name=_name)

_NOT_WRITABLE = frozenset({errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS})


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. Every error is shown before this returns."""
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
        # The reader of our output is gone (`explorer ... | head`).
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
    """An OSError such as a full disk or missing rights names its own cause; every other error is unexpected."""
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
