"""The roles of a backup: of `pg_dumpall --globals-only`, what makes ours and puts them into groups of ours, and nothing else."""

import re
from collections.abc import Iterable, Iterator

from explorer_cli.operations.backup.package import BackupUnusable

# The roles that are ours: on somebody's server there may be others.
_OURS = re.compile(r"explorer_\w+|dagster|dp_\w+|t_[0-9a-f]{8}_\w+|w_[0-9a-f]{8}")
# psql obeys backslashes and colons outside of literals: there are none.
_REST = r"(?:[\w ,.=\"]|'(?:[^'\\]|'')*'|E'(?:[^'\\]|''|\\.)*')*"
_STATEMENT = re.compile(rf"(?:CREATE ROLE \w+|ALTER ROLE \w+ {_REST}|GRANT \w+ TO \w+{_REST});")
_ORDER = ("CREATE", "ALTER", "GRANT")


def is_own(role: str) -> bool:
    return _OURS.fullmatch(role) is not None


def own_roles(statements: Iterable[str]) -> Iterator[str]:
    """The lines about our roles alone.

    Raises:
        BackupUnusable: a line about them is not one whole statement of those kinds.
    """
    for line in statements:
        found = re.match(r"(?:CREATE|ALTER) ROLE (\w+)\b", line)
        granted = re.match(r"GRANT (\w+) TO (\w+)\b", line)
        roles = found.groups() if found else granted.groups() if granted else ()
        if not roles or not all(map(is_own, roles)):
            continue
        if not _STATEMENT.fullmatch(line):
            raise BackupUnusable(
                f"What the server says about role {roles[-1]} is no statement that a backup can hold.",
                next_step="Look at the role's settings (`\\drds` of psql), and take away what the platform did not make.",
            )
        # Who granted it may not be there; on restoring, the administrator does.
        yield re.sub(r" GRANTED BY \w+;$", ";", line)


def united(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """The statements of two looks, in an order that works: a tenant made or removed between them may be in the databases' dumps.
    What both tell differently is in the end as the later one tells it."""
    return sorted(dict.fromkeys([*before, *after]), key=lambda line: _ORDER.index(line.partition(" ")[0]))
