"""Under which operating system account does a server run that root starts? PostgreSQL refuses to run as root.

The configured account, else `postgres`, else `nobody`; or the owner of existing data. No account is made.
"""

import contextlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.postgres.errors import PostgresNotStartable
from explorer.postgres.state import SUPERUSER


@dataclass(frozen=True)
class Account:
    """The unprivileged account of a server that root starts."""

    uid: int
    gid: int

    def drop(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_for(data: Path, configured: str | None) -> Account | None:
    """The server's account; None: the caller's. Existing data decide, because the server must own them."""
    if os.geteuid() != 0:
        return None
    if data.is_dir() and data.stat().st_uid != 0:
        owner = data.stat()
        return Account(owner.st_uid, owner.st_gid)
    for name in filter(None, (configured, SUPERUSER, "nobody")):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid)
        if name == configured:
            break
    raise PostgresNotStartable(
        f"PostgreSQL refuses to run as root, and the account {configured or 'postgres or nobody'} cannot be used instead.",
        next_step="Run as an ordinary user, or name an unprivileged account in EXPLORER_POSTGRES_OS_USER.",
    )


def can_enter(account: Account, folder: Path) -> bool:
    return _try_as(account, ["/bin/sh", "-c", 'cd "$0"', str(folder)])


def can_run(account: Account, program: Path) -> bool:
    return _try_as(account, [str(program), "--version"])


def _try_as(account: Account, command: list[str]) -> bool:
    try:
        answer = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60, **account.drop()
        )
    except PermissionError:
        return False
    return answer.returncode == 0
