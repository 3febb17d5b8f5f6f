"""Every command that README.md and SKILL.md show is run, in order, as a new user would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skill.fleet import settings
from tests import forked, kept_runtime
from tests.demo_copy import copy_manifests
from tests.e2e.runs import PATIENCE, ROOT, World
from tests.sshd import Sshd
from tests.vast_account import QUICK
from tests.vast_double import Double
from tests.vast_hosts import LoopbackHosts

DOCUMENTS = ("README.md", "SKILL.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    """The lines of all ```sh blocks."""
    blocks = BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture
def gpu_a(world: World, document: str) -> Iterator[Sshd]:
    """The host that the documents name, by the user's own ~/.ssh/config; for the first of them one that is new."""
    with Sshd(world.root / "gpu-a") as host:
        if document != DOCUMENTS[0]:
            kept_runtime.give(host.home)
        config = world.home / ".ssh" / "config"
        config.parent.mkdir(mode=0o700)
        config.write_text(
            f"Host gpu-a.example\n  HostName {host.address}\n  Port {host.port}\n  IdentityFile {host.key}\n"
        )
        yield host


@pytest.fixture
def vast(world: World, document: str) -> Iterator[Double]:
    """Vast.ai, with one offer, and a key to enter what is rented."""
    hosts = LoopbackHosts(world.root / "rented", lambda: double.url, used=document != DOCUMENTS[0])
    double = Double(hosts)
    double.world.offer()
    key = world.home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    yield double
    hosts.close()
    double.close()


def run(line: str, cwd: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a line as a shell would. Our command is forked, but for a look at what is installed under its name."""
    words = shlex.split(line)
    if words[0] == "wavequeue" and "--version" not in words:
        process = forked.start("skill", words[1:], cwd, environment)
        out, err = process.communicate(2 * PATIENCE)
        return process.wait(), out, err
    if words[0] == "make":  # its two targets hold this very test; make itself says whether it knows them
        line = f"make -n -C {ROOT} {shlex.join(words[1:])}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.usefixtures("gpu_a")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_run_as_written(world: World, vast: Double, document: str) -> None:
    lines = commands(document)
    assert any("wavequeue run " in line for line in lines)
    assert any("wavequeue submit " in line for line in lines)
    checkout = world.root / "checkout"
    checkout.mkdir()
    copy_manifests(checkout / "manifests")
    (checkout / ".venv").symlink_to(sys.prefix)
    (checkout / "vast.yaml").write_text(QUICK)
    environment = {key: value for key, value in world.environment.items() if key != "PYTHONPATH"} | vast.environment
    environment["PATH"] = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    out = err = ""
    for line in lines:
        code, said, complained = run(line, checkout, environment)
        out, err = f"{out}{said}", f"{err}+ {line}\n{complained}"
        assert code == 0, (line, code, out + err)
    assert out.count("8 of 8 jobs completed") >= 2, "here, and on the host"
    assert "6 of 6 jobs completed" in err, "on a rented machine"
    assert vast.count("PUT", "/asks/") == 1
    assert vast.world.boxes == {}, "nothing is left rented"


def test_verbs_of_the_readme_are_those_of_the_command() -> None:
    table = re.findall(
        r"^\| ((?:`[a-z][^`]*`(?:, )?)+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    named = {
        verb.split()[0] for row in table for verb in re.findall(r"`([a-z][^`]*)`", row) if "." not in verb.split()[0]
    }
    argv = [sys.executable, "-c", "import sys; from skill.cli.main import main; sys.exit(main(['--help']))"]
    shown = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    verbs = set(re.findall(r"^  ([a-z]+)  ", shown.split("Commands:")[1], re.MULTILINE))
    assert named == verbs


def test_the_vast_yaml_of_the_readme_says_what_it_seems_to(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    (text,) = [block for block in blocks if "watcher:" in block]
    (tmp_path / "vast.yaml").write_text(text)
    where = tmp_path / "workers.yaml"
    rules, sources = settings.read_rules(where)
    assert (rules.every, rules.most_instances, sources["most_dph"]) == (300.0, 2, "vast.yaml:4")
    assert settings.read_renting(where) == settings.Renting(), "it shows what is built in"
    assert settings.read_profiles(where)["mine"].cards == 2
