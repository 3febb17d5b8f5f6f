"""A wheel, built from the repository and from its archive, does what the checkout does, in a venv of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from skill.common import commit
from tests.demo_copy import shorten
from tests.e2e.runs import PATIENCE, ROOT, World
from tests.skill.test_commit import git
from tests.test_repository import files

BUILD = "from setuptools import build_meta; build_meta.build_wheel('made'); build_meta.build_sdist('made')"
BUILD_AGAIN = (
    "import os, sys, tarfile; from setuptools import build_meta; tarfile.open(sys.argv[1]).extractall();"
    "os.chdir(*os.listdir()); build_meta.build_wheel('..')"
)


def call(*words: str | Path, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/RECORD")}


def test_a_wheel_in_a_bare_venv_runs_the_demo(world: World) -> None:
    environment = {name: value for name, value in world.environment.items() if name != "PYTHONPATH"}
    source, again, venv, desk = (world.root / name for name in ("source", "again", "venv", "desk"))
    for name in files():
        if not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "all of it")
    number = commit.commit(source)

    stale = source / "build" / "lib" / "skill" / "removed.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("left by an earlier build\n")
    call(sys.executable, "-c", BUILD, cwd=source, environment=environment)
    (wheel,) = source.glob("made/*.whl")
    shipped = content(wheel)
    assert json.loads(shipped["skill/commit.json"]) == {"commit": number}
    assert "skill/removed.py" not in shipped
    assert not [name for name in shipped if name.startswith("tests")]

    (archive,) = source.glob("made/*.tar.gz")
    again.mkdir()
    call(sys.executable, "-c", BUILD_AGAIN, archive, cwd=again, environment=environment)
    assert content(next(again.glob("*.whl"))) == shipped

    call(sys.executable, "-m", "venv", "--without-pip", venv, cwd=world.root, environment=environment)
    python = venv / "bin" / "python"
    inside = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                       cwd=world.root, environment=environment).strip())  # fmt: skip
    # The libraries are those of the tests, with pip; of what is installed with -e there, this path brings nothing.
    (inside / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile")
    call(python, *install, wheel, cwd=world.root, environment=environment)

    desk.mkdir()
    environment["PATH"] = f"{venv / 'bin'}{os.pathsep}{environment['PATH']}"

    def wavequeue(*words: str) -> str:
        return call(venv / "bin" / "wavequeue", *words, cwd=desk, environment=environment)

    where = call(python, "-c", "import skill, queue_manager as q; print(skill.__file__, q.__file__)",
                 cwd=desk, environment=environment)  # fmt: skip
    assert [Path(one).is_relative_to(venv) for one in where.split()] == [True, True]
    assert wavequeue("--version") == f"wavequeue 0.1.0 (commit {number})\n"
    assert "demo\n" in wavequeue("init", "--example", "list")
    wavequeue("init", "--example", "demo")
    shorten(desk)
    wavequeue("run", "demo.yaml")
    assert "| students | completed | 6 | 6 | 6 of 6 |" in wavequeue("report")
    wavequeue("report", "--html", "report.html")
    assert "student_N16_seed42" in (desk / "report.html").read_text()
    wavequeue("skill", "install")
    installed = world.home / ".claude" / "skills" / "wavequeue" / "SKILL.md"
    assert installed.read_text() == (ROOT / "SKILL.md").read_text()
    wavequeue("init")
    assert "6 jobs in 2 phases" in wavequeue("plan", "spec.yaml")
    wavequeue("research", "init", "--title", "A", "--idea", "b", "--target", "c", "--metric", "d")
