"""Ask git about a project. A failure of git is never taken for an answer: it is reported with git's own words.

If a failure ("dubious ownership", a broken index) were read as "no repository", files excluded by `.git/info/exclude`
would be sent, and files that were added in spite of a `.gitignore` would not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.terminal_text import one_line
from skill.common.errors import UseError
from skill.common.files import make_directory, write_whole

_OPTIONS = ("-c", "core.fsmonitor=false")
"""No program that a repository's configuration names is run for a listing."""


def is_installed() -> bool:
    """Tell whether git is installed."""
    return shutil.which("git") is not None


def sent_files(source: Path) -> list[str]:
    """List what git tracks or would add below `source`, relative to it; a repository within is a name that ends in `/`.

    Where `source` is in no repository, or in one that ignores it, its own `.gitignore` files and the user's count.
    Raises UseError where git refuses.
    """
    if _is_within(source) and not _is_ignored(source):
        return _names(_asked(source, ["ls-files", "-z", "-co", "--exclude-standard"]))
    with tempfile.TemporaryDirectory() as empty:
        # The least that git takes for a repository, without the templates of this machine.
        for folder in ("objects", "refs"):
            make_directory(Path(empty, folder))
        write_whole(Path(empty, "HEAD"), "ref: refs/heads/none\n", durable=False)
        place = [f"--git-dir={empty}", f"--work-tree={source}", "-c", "core.bare=false"]
        return _names(_asked(source, [*place, "ls-files", "-z", "-o", "--exclude-standard"]))


def tracked_files(source: Path) -> list[str]:
    """List the files in and below `source` that git tracks, relative to it; none where there is no repository.

    None, too, where git is not installed. Raises UseError where git refuses.
    """
    if not is_installed() or not _is_within(source):
        return []
    return _names(_asked(source, ["ls-files", "-z", "--cached"]))


class _Answer(NamedTuple):
    code: int
    out: bytes
    err: str


def _run(source: Path, arguments: Sequence[str]) -> _Answer:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment.update(LC_ALL="C", GIT_OPTIONAL_LOCKS="0")
    command = ["git", *_OPTIONS, "-C", str(source), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment)
    return _Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def _asked(source: Path, arguments: Sequence[str]) -> bytes:
    answer = _run(source, arguments)
    if answer.code != 0:
        raise _refused(source, arguments, answer)
    return answer.out


def _is_within(source: Path) -> bool:
    """Tell whether `source` is in a repository with a work tree."""
    nearest = _nearest(source)
    if nearest is None:
        return False
    question = ["rev-parse", "--is-inside-work-tree", "--absolute-git-dir"]
    answer = _run(source, question)
    if answer.code != 0:
        raise _refused(source, question, answer)
    inside, _, where = answer.out.rstrip(b"\n").partition(b"\n")
    if nearest.is_dir() and nearest.resolve() != Path(os.fsdecode(where)).resolve():
        raise UseError(
            f"git cannot read the repository {nearest}, so it is unknown what it tracks and ignores; fix or remove it"
        )
    return inside == b"true"


def _nearest(source: Path) -> Path | None:
    """Find the nearest `.git` in or above `source`, as git does: not beyond the border of a file system."""
    here = source.resolve()
    device = here.stat().st_dev
    for folder in (here, *here.parents):
        if folder.stat().st_dev != device:
            return None
        if os.path.lexists(folder / ".git"):
            return folder / ".git"
    return None


def _is_ignored(source: Path) -> bool:
    if not _asked(source, ["rev-parse", "--show-prefix"]).strip():
        return False  # no repository ignores its own top, though a line of one blank makes check-ignore say so
    question = ["check-ignore", "-q", "."]
    answer = _run(source, question)
    if answer.code not in (0, 1):
        raise _refused(source, question, answer)
    return answer.code == 0


def _refused(source: Path, arguments: Sequence[str], answer: _Answer) -> UseError:
    words = " ".join(answer.err.replace("fatal: ", "").split()) or f"exit code {answer.code}, and no message"
    words = one_line(words, 500)
    return UseError(
        f"git does not list the files of {source}: {words}; "
        f"once `git -C {shlex.quote(str(source))} {shlex.join(arguments)}` works, this does too"
    )


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]
