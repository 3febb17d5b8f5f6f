"""What the build adds to pyproject.toml: the files for users that lie beside the packages, and the commit."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from skill.common import commit, shipped  # noqa: E402

_LEFT_OUT = shutil.ignore_patterns("out", "experiment_queue", "__pycache__")


class BuildPy(build_py):
    """Builds the packages anew: what an earlier build left may be of another commit."""

    def run(self) -> None:
        if self.editable_mode:  # the checkout itself is used
            super().run()
            return
        built = Path(self.build_lib)
        shutil.rmtree(built, ignore_errors=True)
        super().run()
        folder = built / "skill" / shipped.FOLDER
        folder.mkdir(parents=True)
        shutil.copy(ROOT / shipped.SKILL, folder)
        shutil.copytree(ROOT / shipped.MANIFESTS, folder / shipped.MANIFESTS, ignore=_LEFT_OUT)
        commit.written(built).write_text(commit.document(ROOT), encoding="utf-8")


class Sdist(sdist):
    """Writes the commit down, for what is built from the archive."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        commit.written(Path(base_dir)).write_text(commit.document(ROOT), encoding="utf-8")


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
