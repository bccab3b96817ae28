"""HOME is private to its owner; an unusable HOME is an error with a reason."""

import errno
import os
from pathlib import Path

import pytest

from explorer.core.home import (
    HomeNotUsable,
    code_server_socket,
    home_not_usable,
    keep_private,
    make_home,
    open_to_others,
    warm_pool_socket,
)


def test_a_new_home_is_private_whatever_the_umask_and_an_old_one_stays(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_home(tmp_path / "deep" / "home")
    finally:
        os.umask(before)
    # The database server's account passes through root's.
    assert (tmp_path / "deep" / "home").stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o750)
    make_home(tmp_path / "old")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o750


def test_a_home_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeNotUsable, match=r"file.* cannot be used") as caught:
        make_home(tmp_path / "file" / "home")
    assert "EXPLORER_HOME" in caught.value.next_step
    full = home_not_usable(tmp_path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "Make room" in full.next_step


def test_what_was_left_open_is_found_and_closed(tmp_path: Path) -> None:
    (tmp_path / "run" / "deep").mkdir(parents=True, mode=0o755)
    loose = [tmp_path / "secret.keys", tmp_path / "run" / "deep" / "state"]
    for path in loose:
        path.touch()
        path.chmod(0o644)
    (tmp_path / "postgres").mkdir()
    theirs = tmp_path / "postgres" / "file"
    theirs.touch()
    theirs.chmod(0o640)
    assert set(loose) <= set(open_to_others(tmp_path))
    keep_private(tmp_path)
    assert open_to_others(tmp_path) == []
    assert theirs.stat().st_mode & 0o777 == 0o640
    assert tmp_path.stat().st_mode & 0o066 == 0


def test_sockets_lie_in_home_or_where_their_path_is_short_enough(tmp_path: Path) -> None:
    assert warm_pool_socket(Path("/h")) == Path("/h/run/warm.sock")
    deep = tmp_path / ("x" * 120)
    assert len(os.fsencode(warm_pool_socket(deep))) <= 100
    assert warm_pool_socket(deep) != warm_pool_socket(tmp_path / ("y" * 120))
    assert code_server_socket(deep).parent == warm_pool_socket(deep).parent
