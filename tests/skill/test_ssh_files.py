"""What the files of OpenSSH's client say of one host, told without ssh: never less than ssh itself would say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skill.hosts import ssh_files
from skill.hosts.ssh_settings import differences, parse

HOST, NOBODY = "10.0.0.7", "nobody.names.this.invalid"
SILENT = {
    "nothing": "",
    "words about all": "# Host 10.0.0.7\nUser me\nHost *\n  ForwardAgent no\n  Port=2222\n",
    "another": "Host gpu-a gpu-b\n  Port 7\nhost=10.0.0.8 10.0.1.*\n  Port 8\n",
    "what is excluded": "Host !10.0.0.* *.example\n  Port 7\n",
    "a set that is a letter": "Host 10.0.0.77 ?0.0.0.7x\n  Port 7\n",
    "an include that is not there": "Include nothing/*.conf\n",
}
NAMING = {
    "itself": "Host 10.0.0.7\n  Port 7\n",
    "one of several": "Host a 10.0.0.7 b\n  Port 7\n",
    "a pattern": "HOST 10.0.?.*\n  Port 7\n",
    "all but the other": "Host !*.invalid *\n  Port 7\n",
    "a match": "Match host 10.*\n  Port 7\n",
    "an equals sign": "Host=10.0.0.7\n  Port 7\n",
    "quotes": 'Host "10.0.0.7"\n  Port 7\n',
    "an include": "Include {folder}/more/*.conf\n",
    "an include of an include": "Include {folder}/less.conf\n",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.conf").write_text("Host 10.0.0.7\n  Port 7\n")
    (tmp_path / "less.conf").write_text(f"Include {tmp_path}/more/a.conf\n")
    return tmp_path / "config"


def by_ssh(file: Path) -> bool:
    def ask(host: str) -> str:
        argv = ["ssh", "-F", str(file), "-G", host]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    return bool(differences(parse(HOST, ask(HOST)), parse(NOBODY, ask(NOBODY))))


@pytest.mark.parametrize("text", [*SILENT.values()], ids=[*SILENT])
def test_files_that_name_no_host_are_reported_without_ssh(file: Path, text: str) -> None:
    file.write_text(text)
    assert ssh_files.may_name(HOST, NOBODY, [file]) is by_ssh(file) is False


@pytest.mark.parametrize("text", [*NAMING.values()], ids=[*NAMING])
def test_whatever_names_a_host_to_ssh_may_name_it(file: Path, text: str) -> None:
    file.write_text(text.format(folder=file.parent))
    assert ssh_files.may_name(HOST, NOBODY, [file]) is by_ssh(file) is True


@pytest.mark.parametrize(
    "text",
    [
        "CanonicalizeHostname yes\n",
        "Match all\n",
        "Include ${HOME}/x\n",
        "Host caf\u00e9\n",
        "Include {folder}/config\n",
    ],
    ids=["canonical names", "match", "a variable", "other letters", "a circle"],
)
def test_what_only_ssh_can_tell_is_left_to_it(file: Path, text: str) -> None:
    file.write_text(text.replace("{folder}", str(file.parent)))
    assert ssh_files.may_name(HOST, NOBODY, [file])


def test_a_file_that_cannot_be_read_is_left_to_ssh_and_one_that_is_missing_says_nothing(tmp_path: Path) -> None:
    assert not ssh_files.may_name(HOST, NOBODY, [tmp_path / "config", tmp_path / "other"])
    (tmp_path / "config").mkdir()
    assert ssh_files.may_name(HOST, NOBODY, [tmp_path / "config"])
