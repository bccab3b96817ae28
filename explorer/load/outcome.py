"""When has a load failed as a whole, and with which error?"""

from collections.abc import Mapping

from explorer.core.errors import ExplorerError
from explorer.http.errors import ApiError, CutOff, PermissionMissing, Throttled
from explorer.load.report import name_failures


def raise_if_all_failed(errors: Mapping[str, BaseException | None]) -> None:
    """`errors`: of every source of the load, None where it was loaded. Sources that are not allowed have an error too.

    Raises the error of the whole load: the server cut us off, or every source failed.
    """
    known: dict[str, ExplorerError] = {}
    for name, error in errors.items():
        if isinstance(error, ExplorerError):
            known[name] = error
        elif error is not None:
            raise error
    cut_off = next((error for error in known.values() if isinstance(error, CutOff)), None)
    if cut_off:
        raise cut_off
    if known and len(known) == len(errors):
        raise _together(known)


def _together(errors: Mapping[str, ExplorerError]) -> ExplorerError:
    """One error for all: of the class that says most about the next step, with every cause in its message."""
    first = min(errors.values(), key=_rank)
    if len(errors) == 1:
        return first
    causes = {name: error.as_dict() for name, error in errors.items()}
    details = {**first.details, "resources": sorted(errors)}
    if isinstance(first, ApiError):
        return type(first)(name_failures(causes), provider=first.provider, next_step=first.next_step, details=details)
    return type(first)(name_failures(causes), next_step=first.next_step, details=details)


def _rank(error: ExplorerError) -> int:
    """Most useful first: an exhausted allowance says when to continue; a missing permission may concern only one resource."""
    if not isinstance(error, ApiError):
        # Of our own: a quota that is used up, a database that does not answer.
        return 0
    return 1 if isinstance(error, Throttled) else 3 if isinstance(error, PermissionMissing) else 2
