"""Only regular files are read, none is waited for, and none is read without end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from build_manifest import regular_file


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\r\nb\rc\n")
    assert regular_file.read(path, 7) == b"a\r\nb\rc\n"
    assert regular_file.read_text(path) == "a\nb\nc\n"
    with pytest.raises(OSError, match="is too large: 7 bytes, and at most 6 are read") as caught:
        regular_file.read(path, 6)
    assert caught.value.filename == str(path)
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="is too large"):
        regular_file.read(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path, says in ((tmp_path / "fifo", "is a named pipe"), (tmp_path / "socket", "is a socket"),
                       (Path("/dev/zero"), "is a device"), (tmp_path, "Is a directory")):  # fmt: skip
        with pytest.raises(OSError, match=says) as caught:
            regular_file.open_regular(path)
        assert caught.value.filename == str(path)


def test_a_link_is_followed_only_where_nobody_else_can_have_put_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert regular_file.read(tmp_path / "link") == b"x"
    with pytest.raises(OSError, match="is a symbolic link"):
        regular_file.read(tmp_path / "link", follow=False)
    assert regular_file.read(tmp_path / "file", follow=False) == b"x"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def there() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = there()
    for _ in range(3):
        with pytest.raises(OSError, match="directory"):
            regular_file.read(tmp_path)
    assert there() == before
