"""What lies in HOME, the folder of all state? Private to its owner.

Compiled SQL holds labels, logs hold names, runs keep what programs print. The database's folder has its own rules
(`explorer.postgres.embedded`): its server may run under another account.
"""

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from explorer.core.errors import ExplorerError

# Folders that our programs write below HOME.
FOLDERS = ("audit", "dagster", "dbt", "dlt", "logs", "run")
_MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux, 104 on macOS


class HomeNotUsable(ExplorerError):
    """HOME cannot be made or written."""

    code = "home_not_usable"


def make_home(home: Path) -> None:
    """Make HOME if it is missing. An existing one keeps its mode.

    Raises:
        HomeNotUsable: it cannot be made.
    """
    if home.is_dir():
        return
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            # The database server's account must pass through to its own folder. chmod, since the umask narrows mkdir's mode.
            home.chmod(0o711)
    except OSError as error:
        raise home_not_usable(home, error) from error


def home_not_usable(home: Path, error: OSError) -> HomeNotUsable:
    """The error for an operating system error below `home`."""
    where = f" ({error.filename})" if error.filename else ""
    step = (
        "Make room, then try again; what runs meanwhile comes back by itself."
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "Set EXPLORER_HOME to a folder that this account can write."
    )
    return HomeNotUsable(f"The state folder {home} cannot be used: {error.strerror or error}{where}.", next_step=step)


def keep_private(home: Path) -> None:
    """Close what older versions, libraries or people left open: folders below HOME get 0700, files 0600. Nobody else may list or
    change HOME itself, but the account of its database server may pass through."""
    with contextlib.suppress(OSError):
        home.chmod(stat.S_IMODE(home.stat().st_mode) & 0o711)
        for path in home.iterdir():
            if path.is_file():
                _close(path)
    for path in map(home.joinpath, FOLDERS):
        if path.is_dir() and not path.is_symlink():
            _close(path)
            for folder, folders, files in os.walk(path):
                for name in (*folders, *files):
                    _close(Path(folder, name))


def open_to_others(home: Path) -> list[Path]:
    """Files and folders below HOME that others than the owner may access."""
    found = [path for path in home.iterdir() if path.is_file()]
    for name in FOLDERS:
        for folder, folders, files in os.walk(home / name):
            found += [Path(folder), *(Path(folder, each) for each in (*folders, *files))]
    return sorted({path for path in found if not path.is_symlink() and path.lstat().st_mode & 0o077})


def warm_pool_socket(home: Path) -> Path:
    """The warm pool's socket: in HOME/run, or in a short private folder when that path is too long for a socket."""
    path = home / "run" / "warm.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"explorer-{os.getuid()}-{digest}" / "warm.sock"


def code_server_socket(home: Path) -> Path:
    """The code location server's socket: beside the warm pool's, in a private folder."""
    return warm_pool_socket(home).with_name("code.sock")


def _close(path: Path) -> None:
    # Owned by others, or gone meanwhile: `explorer doctor` reports what stays open.
    with contextlib.suppress(OSError):
        status = path.lstat()
        if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode):
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
