"""`tools/setup.sh` on machines of every kind. What it calls are stand-ins that write down how they were called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHELL_TOOLS = ["cat", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "sh"]

# Acts as Python 3.11: answers whether a snippet would run, makes a .venv with a copy of itself, notes all else. The one
# of .venv/vastai has no pip until ensurepip has run.
PYTHON = r"""#!/bin/sh
echo "python $*" >>"$CALLS"
case "$*" in
"-m ensurepip") : >"$0.pip" ;;
*ensurepip*) [ ! -e "$BIN/no-ensurepip" ] ;;
*"python%d.%d-venv"*) echo python3.11-venv ;;
"-m venv .venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m venv --without-pip "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-c import pip") case $0 in *vastai*) [ -e "$0.pip" ] ;; esac ;;
esac
"""
NOTED = '#!/bin/sh\necho "${0##*/} $*" >>"$CALLS"\n'


class Machine:
    """A clone of the project and a PATH on which only `programs` and the shell's own tools are found."""

    def __init__(self, folder: Path, *, root: bool = True, programs: tuple[str, ...] = ()) -> None:
        self.bin, self.clone, self.calls_file = folder / "bin", folder / "clone", folder / "calls"
        self.bin.mkdir()
        (self.clone / "tools").mkdir(parents=True)
        for name in ("pyproject.toml", "constraints.txt", "constraints-vastai.txt", "tools/setup.sh"):
            shutil.copy(ROOT / name, self.clone / name)
        for tool in SHELL_TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        self.add("id", f"#!/bin/sh\necho {0 if root else 1000}\n")
        for program in programs:
            self.add(program, PYTHON if program == "python3" else NOTED)

    def add(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def setup(self, goal: str = "demo") -> subprocess.CompletedProcess[str]:
        """Run the script; `calls` then tells of this run only."""
        self.calls_file.write_text("", encoding="utf-8")
        environment = {"PATH": str(self.bin), "BIN": str(self.bin), "CALLS": str(self.calls_file)}
        command = [str(self.bin / "sh"), str(self.clone / "tools" / "setup.sh"), goal]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)

    def calls(self, program: str) -> list[str]:
        lines = self.calls_file.read_text(encoding="utf-8").splitlines()
        return [line.partition(" ")[2] for line in lines if line.startswith(program + " ")]

    def pip(self) -> list[str]:
        """How pip was called, but for uv, which is there on no machine here unless a test puts it there."""
        return [call for call in self.calls("python") if call.startswith("-m pip") and not call.endswith(" uv")]


def test_a_bare_machine_gets_what_is_missing_and_then_nothing_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path, programs=("python3", "apt-get"))
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    update, install = machine.calls("apt-get")
    assert update.startswith("update")
    assert install.split()[-1] == "screen"
    (pip,) = machine.pip()
    assert pip.endswith("-c constraints.txt -e .")

    machine.add("screen", NOTED)
    again = machine.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert machine.calls("apt-get") + machine.pip() == []


def test_tests_need_more_than_the_demo(tmp_path: Path) -> None:
    machine = Machine(tmp_path, programs=("python3", "apt-get", "screen", "tmux"))
    assert machine.setup().returncode == 0
    assert machine.calls("apt-get") == []
    assert machine.setup("test").returncode == 0
    # sshd may be there all the same: it is looked for in /usr/sbin too.
    wanted = set(machine.calls("apt-get")[1].split()) - {"openssh-server"}
    assert wanted >= {"rsync", "gcc", "libc6-dev", "procps"}
    assert not wanted & {"screen", "tmux"}
    vastai, ours = sorted(machine.pip(), key=lambda call: call.endswith("-e .[dev]"))
    assert ours.endswith("-e .[dev]")
    assert vastai.endswith("-c constraints-vastai.txt vastai")
    assert machine.setup("demo").returncode == 0
    assert machine.setup("docs").returncode == 0
    assert machine.pip() == [], "what the tests have is enough for the demo and the site"


def test_the_site_needs_no_more_than_its_generator(tmp_path: Path) -> None:
    machine = Machine(tmp_path, programs=("python3", "apt-get"))
    assert machine.setup("docs").returncode == 0
    assert machine.calls("apt-get") == []
    (pip,) = machine.pip()
    assert pip.endswith("-c constraints.txt -e .[docs]")
    assert machine.setup("docs").stderr == ""
    assert machine.pip() == []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path, programs=("python3", "screen"))
    machine.setup()
    with (machine.clone / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    machine.setup()
    assert len(machine.pip()) == 1
    assert "-m venv .venv" not in machine.calls("python")


@pytest.mark.parametrize("failed", ["-m pip*constraints.txt*", "-m pip*constraints-vastai.txt*"])
def test_an_install_that_failed_is_tried_again(tmp_path: Path, failed: str) -> None:
    machine = Machine(tmp_path, programs=("python3", "apt-get", "screen"))
    machine.add("python3", PYTHON.replace("esac", f"{failed.replace(' ', chr(92) + ' ')}) exit 1 ;;\nesac"))
    assert machine.setup("test").returncode == 1
    machine.add("python3", PYTHON)
    for place in (".venv", ".venv/vastai"):
        shutil.copy(machine.bin / "python3", machine.clone / place / "bin" / "python")
    assert machine.setup("test").returncode == 0
    assert len(machine.pip()) == 2


@pytest.mark.parametrize("works", [True, False])
def test_uv_installs_and_pip_only_where_uv_cannot(tmp_path: Path, works: bool) -> None:
    machine = Machine(tmp_path, programs=("python3", "apt-get", "screen"))
    assert machine.setup().returncode == 0
    (machine.clone / ".venv/ready-demo").unlink()
    machine.add("uv", NOTED if works else NOTED + "exit 2\n")
    (machine.bin / "uv").rename(machine.clone / ".venv/bin/uv")
    assert machine.setup("test").returncode == 0
    vastai, ours = sorted(machine.calls("uv"), key=lambda call: call.endswith("-e .[dev]"))
    assert ours == "pip install -q --python .venv/bin/python -c constraints.txt -e .[dev]"
    assert vastai == "pip install -q --python .venv/vastai/bin/python -c constraints-vastai.txt vastai"
    assert len(machine.pip()) == (0 if works else 2)
    assert machine.calls("python").count("-m ensurepip") == (0 if works else 1), "only where pip has something to do"


def test_a_clone_that_was_moved_gets_a_new_venv(tmp_path: Path) -> None:
    machine = Machine(tmp_path, programs=("python3", "screen"))
    machine.setup()
    machine.clone = machine.clone.rename(tmp_path / "elsewhere")
    machine.setup()
    assert "-m venv .venv" in machine.calls("python")
    assert len(machine.pip()) == 1


def test_one_who_may_not_install_is_told_what_to_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False, programs=("python3", "apt-get"))
    done = machine.setup()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("sudo apt-get install -y screen")
    assert machine.calls("apt-get") + machine.calls("python") == []


def test_a_machine_without_apt_gets_the_names(tmp_path: Path) -> None:
    done = Machine(tmp_path, programs=("python3",)).setup()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("screen")


def test_debian_python_without_venv_gets_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, programs=("python3", "apt-get", "screen"))
    (machine.bin / "no-ensurepip").touch()
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert machine.calls("apt-get")[1].split()[-1] == "python3.11-venv"
    assert len(machine.pip()) == 1


@pytest.mark.parametrize("python", ["#!/bin/sh\nexit 1\n", None], ids=["too old", "none"])
def test_a_machine_without_a_new_python_is_named(tmp_path: Path, python: str | None) -> None:
    machine = Machine(tmp_path, programs=("apt-get", "screen"))
    if python:
        machine.add("python3", python)
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["wavequeue: Python 3.10 or newer is needed, and no such python3 is in PATH"]
    assert not (machine.clone / ".venv").exists()


def test_another_python_is_taken_where_the_first_does_not_do(tmp_path: Path) -> None:
    machine = Machine(tmp_path, programs=("screen",))
    machine.add("python3", "#!/bin/sh\nexit 127\n")
    machine.add("python3.12", PYTHON)
    assert machine.setup().returncode == 0
    assert len(machine.pip()) == 1


def test_wrong_use_is_an_error(tmp_path: Path) -> None:
    done = Machine(tmp_path).setup("tets")
    assert done.returncode == 1
    assert "demo|docs|test" in done.stderr
