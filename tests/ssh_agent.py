"""A real ssh-agent for a test, with the keys that it is to hold."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.runs import wait_for

_NOT_REACHED = 2
"""Exit code of `ssh-add` when it cannot connect to the agent (ssh-add(1), EXIT STATUS)."""


@contextlib.contextmanager
def ssh_agent(path: Path, *keys: Path) -> Iterator[Path]:
    """Run an agent that listens at `path`, which has to be short, and holds `keys`, until the block ends.

    The socket's file is there before the agent accepts connections, so the agent is asked and not the file.
    """
    environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL, cwd=path.parent)

    def answers() -> bool:
        assert process.poll() is None, f"ssh-agent ended with code {process.returncode}"
        listed = subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True, timeout=60)
        return listed.returncode != _NOT_REACHED

    try:
        wait_for(answers, say="the agent to answer")
        if keys:
            subprocess.run(["ssh-add", "-q", *map(str, keys)], env=environment, check=True, timeout=60)
        yield path
    finally:
        process.kill()
        process.wait()
