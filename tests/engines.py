"""Container engines for tests: one that only does what a test can look at, and real ones where they work here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

IMAGE = f"wavequeue-test:{os.getpid()}"
"""Tests may run beside each other."""
PROGRAMS = ("bash", "sh", "cat", "id", "sleep", "touch", "env")
"""What the image has."""

FAKE = r"""#!/bin/bash
# Stands in for a container engine: notes how it was called, and runs the command here, with no more of the environment
# than a container would get.
name=${0##*/}
printf '%s\n' "$name $*" >> "$FAKE_CALLS"
case "$1 $2" in
"--version "*) echo "Docker version 0"; exit 0 ;;
"version "*) [ -z "${FAKE_NO_DAEMON-}" ]; exit ;;
"info "*) echo "[name=seccomp]"; exit 0 ;;
"image inspect") [ -e "$FAKE_CALLS.image" ] || exit 1; echo "repo@sha256:feed"; exit 0 ;;
"pull "*) [ -z "${FAKE_NO_REGISTRY-}" ] || { echo "cannot pull" >&2; exit 1; }; touch "$FAKE_CALLS.image"; exit 0 ;;
esac
given=()
while [ $# -gt 0 ]; do
    case $1 in
    run|exec|--rm|--cleanenv|--nv) shift ;;
    --workdir|--pwd) place=$2; shift 2 ;;
    --env) case $2 in *=*) given+=("$2") ;; *) [ -z "${!2+x}" ] || given+=("$2=${!2}") ;; esac; shift 2 ;;
    --*) shift 2 ;;
    *) break ;;
    esac
done
shift
[ "$name" != apptainer ] || shift
for one in ${!APPTAINERENV_@}; do given+=("${one#APPTAINERENV_}=${!one}"); done
cd "$place" || exit 125
exec env -i PATH="$PATH" "${given[@]}" sh "$@"
"""


def fake(folder: Path, *names: str) -> dict[str, str]:
    """Put engines of these names into a folder; returns the environment that has them, and no others, first in PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{_without_engines(folder)}", "FAKE_CALLS": str(folder / "calls")}


def _without_engines(folder: Path) -> str:
    """A PATH on which only what jobs need is found."""
    tools = folder / "tools"
    tools.mkdir()
    for name in (
        "bash",
        "sh",
        "env",
        "cat",
        "id",
        "sleep",
        "touch",
        "sha256sum",
        "stat",
        "mkdir",
        "timeout",
        "python3",
    ):
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(os.path.realpath(found))
    return str(tools)


class Real:
    """Real engines. `folder`: for their settings and the image, which is made once for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, bool] = {}
        runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
        limits = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        (folder / "containers.conf").write_text(limits + runtime)
        named = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
        self._environment = {"CONTAINERS_CONF": str(folder / "containers.conf"), **named}

    def only(self, name: str, folder: Path) -> dict[str, str] | None:
        """The environment that has this engine and no other, with our image; None where it does not work here.
        `folder`: for a PATH."""
        program = shutil.which(name)
        if program is None:
            return None
        if name not in self._known:
            self._known[name] = self._makes(name)
        if not self._known[name]:
            return None
        folder.mkdir()
        (folder / name).symlink_to(program)
        return {**self._environment, "PATH": f"{folder}:{_without_engines(folder)}:/usr/sbin:/sbin"}

    def close(self) -> None:
        """Remove our images."""
        for name in self._known:
            self._bash(f"{name} image rm -f {IMAGE}")

    def _makes(self, name: str) -> bool:
        """Make our image of this machine's own programs, and try it."""
        root = self._folder / f"root-{name}"
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev"):
            (root / folder).mkdir(parents=True)
        for program in PROGRAMS:
            found = shutil.which(program)
            assert found
            shutil.copy(os.path.realpath(found), root / "bin" / program)
            libraries = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
            for word in libraries.split():
                if word.startswith("/"):
                    (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(os.path.realpath(word), root / word[1:])
        if not self._bash(f"tar -C {root} -c . | {name} import - {IMAGE}"):
            return False
        return self._bash(f"{name} run --rm --network host {IMAGE} sh -c :")

    def _bash(self, command: str) -> bool:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode == 0
