"""Files that only their owner can read are written completely or not at all, and secrets are made once."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from explorer.core import files
from explorer.core.files import private_secret, read_json_object, write_private


@pytest.mark.parametrize("durable", [False, True])
def test_a_private_file_replaces_what_was_there(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "file"
    write_private(path, "first", durable=durable)
    with path.open() as open_before:
        write_private(path, b"second", durable=durable)
        assert open_before.read() == "first"
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_private(path, "first")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "settle", full)
    with pytest.raises(OSError, match="No space left"):
        write_private(path, "second", durable=True)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_durably_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, owner, -1)
    write_private(home / "record", "x", durable=True)
    private_secret(home / "key", durable=True)
    assert [(home / name).stat().st_uid for name in ("record", "key")] == [owner, owner]


def test_of_many_that_miss_a_secret_all_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: private_secret(path), range(32)))
    assert found == {path.read_text()}
    assert len(found.pop()) >= 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe\xff", b'{"a": ' + b"[" * 100_000])
def test_what_is_no_json_object_reads_as_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_bytes(content)
    assert read_json_object(path) == {}


def test_a_json_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_private(path, '{"name": "é"}')
    assert read_json_object(path) == {"name": "é"}
    with pytest.raises(IsADirectoryError):
        read_json_object(tmp_path)
