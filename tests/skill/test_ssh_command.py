"""OpenSSH understands the paths that it is given as they are meant."""

from __future__ import annotations

import subprocess

import pytest

from skill.common.errors import UseError
from skill.hosts import ssh_command
from skill.hosts.ssh_settings import Settings

PATHS = [
    "/plain/known_hosts", "/a b/c", "/100%/x", "/%h%%h%", "/$X/$HOME/x", '/say "x"/y', "/back\\slash\\\\x\\", "/it's/x",
    "/# no comment", "/a=b,c;d", "/~user", "/ü/训练", '/" "',
]  # fmt: skip
NOTHING = Settings("nowhere", {})


def received(command: list[str], name: str) -> str:
    """What ssh says that an option of it is. It has expanded names of known hosts then, and those of keys not yet."""
    done = subprocess.run([*command, "-G", "nowhere"], capture_output=True, check=True, timeout=150)
    values = [line.split(" ", 1)[1] for line in done.stdout.decode().splitlines() if line.startswith(f"{name} ")]
    return values[0]


@pytest.mark.parametrize("path", PATHS)
def test_ssh_takes_a_path_for_one_file(path: str) -> None:
    where = ["-F", "/dev/null", "-p", "2222", "-o", f"IdentityFile={ssh_command.file_value(f'{path}.key')}"]
    command = ssh_command.build("gpu-a", path, NOTHING, where)
    assert received(command, "userknownhostsfile") == path
    assert received(command, "identityfile") in (f"{path}.key", f"{path}.key".replace("%", "%%"))
    assert received(command, "hostkeyalias") == "gpu-a"
    assert received(command, "port") == "2222"


@pytest.mark.parametrize("path", ["/a/${HOME}/x", "/a\nb/x"])
def test_what_ssh_can_only_misread_is_refused_in_words(path: str) -> None:
    with pytest.raises(UseError, match=r"^the path .* move what it names"):
        ssh_command.build("gpu-a", path, NOTHING)
