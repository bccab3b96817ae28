"""The errors of the command line."""

from explorer.core.errors import ExplorerError


class AlreadyRunning(ExplorerError):
    """Another supervisor holds this HOME."""

    code = "already_running"


class PortInUse(ExplorerError):
    """Another program uses a configured port."""

    code = "port_in_use"


class PartFailed(ExplorerError):
    """A part of the platform did not come up; `details["log"]` holds its last lines."""

    code = "part_failed"


class SecretMissing(ExplorerError):
    """The environment variable for a secret is empty or not set."""

    code = "secret_missing"


class UsageInvalid(ExplorerError):
    """The command line cannot be understood."""

    code = "usage"


class ConfirmationNeeded(ExplorerError):
    """A command that cannot be undone was run without --yes, and there is no terminal to confirm on."""

    code = "confirmation_needed"


class DemoMoved(ExplorerError):
    """The demo tenants are stored with another address than the demo server has now."""

    code = "demo_moved"


class ExportIncomplete(ExplorerError):
    """Some tables could not be exported; the others are there."""

    code = "export_incomplete"


class ToolFailed(ExplorerError):
    """The bridge answered a tool call with an error; `code` is the bridge's own."""

    def __init__(self, code: str, message: str, *, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.code = code


class InternalError(ExplorerError):
    """An unexpected error; the traceback is in HOME/logs/explorer.log."""

    code = "internal_error"
