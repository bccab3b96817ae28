"""A lock has one holder, and none after the holder's end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.core import locks
from explorer.core.locks import file_lock, open_lock, try_lock

HOLDER = """
import sys, time
from pathlib import Path
from explorer.core.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_held_by_one_and_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / ".a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        fd = open_lock(path)
        assert not try_lock(fd)
        with pytest.raises(TimeoutError, match=r"has held .*\.a\.lock for 0 s"), file_lock(path, 0.0):
            raise AssertionError("two hold it")
        holder.kill()
        holder.wait()
    assert try_lock(fd)
    os.close(fd)
    with file_lock(path, 0.0):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_can_be_taken_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only file system the folder is locked in the place of a file that cannot be made."""
    real_open = os.open

    def read_only(path: os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return real_open(path, flags, mode)

    monkeypatch.setattr(locks.os, "open", read_only)
    first, second = open_lock(tmp_path / "absent"), open_lock(tmp_path / "absent")
    assert (try_lock(first), try_lock(second)) == (True, False)
    os.close(first)
    os.close(second)


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        open_lock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()
