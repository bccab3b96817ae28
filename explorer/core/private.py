"""Everything below HOME is for its owner alone: compiled SQL holds labels, logs hold names, runs keep what programs print."""

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077
# What programs of ours write below HOME. The database's folder has rules of its own: its server may run as another account.
FOLDERS = ("dagster", "dbt", "dlt", "logs", "run")


def write_privately() -> None:
    """From now on what this process and its children make is their account's alone. For programs, at their start."""
    os.umask(UMASK)


def make_home(home: Path) -> None:
    """Make HOME unless it is there; the mode of an existing one is left alone. Raises OSError."""
    if home.is_dir():
        return
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() == 0:
        # The database server's account must get through to its own folder. Not by mkdir, whose mode the umask narrows.
        home.chmod(0o711)


def keep_private(home: Path) -> None:
    """Take away from others what older versions, libraries or a hand left open: below HOME folders 0700, files 0600. HOME itself
    nobody else may list or change; its server's account may have to pass."""
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
    """What below HOME others than its owner may do anything with."""
    found = [path for path in home.iterdir() if path.is_file()]
    for name in FOLDERS:
        for folder, folders, files in os.walk(home / name):
            found += [Path(folder), *(Path(folder, each) for each in (*folders, *files))]
    return sorted({path for path in found if not path.is_symlink() and path.lstat().st_mode & 0o077})


def _close(path: Path) -> None:
    # Of others, or gone meanwhile: `explorer doctor` tells what stays open.
    with contextlib.suppress(OSError):
        status = path.lstat()
        if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode):
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
