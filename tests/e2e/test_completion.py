"""Completion in real shells, as installed, and what it answers without starting one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skill.cli import completion, main
from skill.common.errors import DONE, USE
from tests.e2e.terminal import Terminal
from tests.skill.story import RUN_ID, Story, job, manifest

HEAVY = ("jinja2", "rich", "yaml", "ruamel", "fabric", "paramiko", "httpx", "psutil")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a run and a file, and a home with hosts."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "config").write_text("Host lab-7 *.lab\n")
    for data in (".local/share/fish", ".cache/fish"):  # or fish begins to read all man pages, and goes on after it
        (tmp_path / "home" / data / "generated_completions").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "work"
    story = Story(manifest(job("alpha_one"), job("alpine"), job("beta", "second")), place / "experiment_queue" / RUN_ID)
    story.complete("alpha_one").start("alpine").start("beta").end("beta", "stuck", error="boom")
    story.write()
    (place / "workers.yaml").write_text(
        "workers:\n  gpu-a:  # a\n    kind: ssh\n    pool: lab\n  gpu-b:\n    pool: own\n"
    )
    monkeypatch.chdir(place)
    return place


def complete(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the last word of a line may become, as bash is answered."""
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    monkeypatch.setenv(completion.VARIABLE, "bash_complete")
    assert main.main([]) == DONE
    return capsys.readouterr().out.replace("plain,", "").split()


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("wq comp", ["completion"]),
        ("wq status --st", ["--status"]),
        ("wq status --status st", ["stuck"]),
        ("wq why al", ["alpha_one", "alpine"]),
        ("wq logs --run demo- be", ["beta"]),
        ("wq attach al", ["alpine"]),
        ("wq retry ", ["beta"]),
        ("wq why --run no-such-run a", []),
        ("wq status --run d", [RUN_ID]),
        ("wq rm d", [RUN_ID]),
        ("wq pull d", [RUN_ID]),
        ("wq cancel --phase s", ["second"]),
        ("wq submit --host ", ["gpu-a", "gpu-b", "lab-7"]),
        ("wq hosts check gpu", ["gpu-a", "gpu-b"]),
        ("wq submit --pool ", ["lab", "own"]),
        ("wq run sp", ["file,sp"]),
        ("wq run -- python tr", ["file,tr"]),
        ("wq plan sp", ["file,sp"]),
        ("wq completion f", ["fish"]),
    ],
)
def test_words_become_what_their_place_takes(
    line: str, found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(line, monkeypatch, capsys) == found


@pytest.mark.usefixtures("work")
def test_nothing_slow_is_imported_for_it() -> None:
    code = f"import sys\nfrom skill.cli.main import main\nmain([])\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    asked = {"COMP_WORDS": "wq why al", "COMP_CWORD": "2", completion.VARIABLE: "bash_complete"}
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, **asked, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["plain,alpha_one", "plain,alpine", "[]"]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_new_shell_completes_a_job_once_it_is_installed(
    shell: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shutil.which(shell), "tools/setup.sh installs it"
    for _ in range(2):  # twice does no harm
        assert main.main(["completion", shell, "--install"]) == DONE
    assert f"open a new {shell}" in capsys.readouterr().out
    startup = work.parent / "home" / f".{shell}rc"
    assert shell == "fish" or startup.read_text().count("# wavequeue completion") == 1
    command = Path(sys.prefix) / "bin"
    environment = {**os.environ, "PATH": f"{command}:{os.environ['PATH']}"}
    terminal = Terminal([shell, "-i"], work, environment)
    terminal.type(b"echo re''ady\n")
    terminal.wait_for("ready")
    for word, whole in ((b"wq why alph\t", "alpha_one"), (b"wq status --run dem\t", RUN_ID)):
        terminal.type(word)
        terminal.wait_for(whole)
        terminal.type(b"\x15")
    terminal.type(b"exit 0\n")
    assert terminal.end() == DONE


def test_a_shell_that_is_not_known_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main.main(["completion"]) == USE
    assert "say for which shell: wavequeue completion bash|zsh|fish" in capsys.readouterr().err
    monkeypatch.setenv("SHELL", "/bin/zsh")
    assert main.main(["completion"]) == DONE
    assert "#compdef wq" in capsys.readouterr().out
