"""A person's machine with a project, and real hosts on loopback that it can reach; what to submit to them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests import forked, in_process, kept_runtime, lock_dir
from tests.e2e.runs import PATIENCE, ROOT, until, wait_for
from tests.sshd import Sshd

SPEC = """
project: small
cwd: code
max_parallel: 2
phases:
  - name: make
    grid: {n: [1, 2, 3, 4]}
    template:
      id: "j${n}"
      cmd: cat input.txt > out${n}; echo ran >> ran${n}
      gpus: 0
      expected_output: "out${n}"
"""
WAITING = SPEC.replace("cat input.txt", f"{until('stop')}; cat input.txt")


class Laptop:
    """A person's machine with a project, and the hosts that it can reach."""

    def __init__(self, root: Path, name: str = "my project") -> None:
        self.root, self.home, self.project = root, root / "laptop", root / name
        self.home.mkdir()
        (self.project / "code").mkdir(parents=True)
        (self.project / "code" / "input.txt").write_text("one\n")
        self._own = {"HOME": str(self.home), "PYTHONPATH": str(ROOT), **lock_dir.make(root / "laptop-lock")}
        self.hosts: dict[str, Sshd] = {}
        self.environment: dict[str, str] = {}
        """More that commands get."""

    def host(
        self,
        name: str,
        *,
        bare: bool = False,
        new: bool = False,
        network: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Sshd:
        """One more host, started and registered. `network`: where it is, as Sshd takes it; absent: on loopback. `new`:
        it has no runtime yet, as a host that served no earlier run; one that is bare has none either."""
        self.hosts[name] = host = Sshd(self.root / name, bare=bare, **(network or {}))
        if not (new or bare):
            kept_runtime.give(host.home)
        path = self.project / "workers.yaml"
        tree = YAML(typ="safe").load(path) if path.exists() else {"workers": {}}
        tree["workers"][name] = host.entry(**fields)
        YAML(typ="safe").dump(tree, path)
        return host

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()

    def variables(self) -> dict[str, str]:
        """The environment of a command here."""
        return {**os.environ, **self._own, **self.environment}

    def start(self, *arguments: str) -> forked.Forked:
        """The command as a process, in a process group of its own."""
        return forked.start("skill", list(arguments), self.project, self.variables())

    def call(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run the command to its end: what it said on stdout and stderr. In this process, where that does as well."""
        if in_process.can_run(arguments):
            ended = in_process.run(arguments, self.project, self.variables())
        else:
            process = self.start(*arguments)
            out, err = process.communicate(timeout=2 * PATIENCE)
            ended = in_process.Ended(process.wait(), out, err)
        assert ended.returncode == code, (arguments, ended)
        return ended.stdout, ended.stderr

    def spec(self, text: str) -> str:
        (self.project / "spec.yaml").write_text(text)
        return "spec.yaml"

    def submit(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Submit the spec that is there."""
        out, _ = self.call("submit", "spec.yaml", "--poll", "0.1", "--json", *options, code=code)
        found: dict[str, Any] = json.loads(out)
        return found

    def runs(self) -> list[str]:
        """What lies here of runs, whatever it is, beside the file for git."""
        folder = self.project / "experiment_queue"
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        return sorted(names - {".gitignore"})


def workspace(host: Sshd) -> Path:
    return host.home / "wavequeue" / "small" / "code"


def state(host: Sshd, run_id: str) -> dict[str, Any] | None:
    path = host.home / ".wavequeue" / "runs" / run_id / "queue_state.json"
    return json.loads(path.read_text()) if path.exists() else None


def finish(host: Sshd, run_id: str) -> list[str]:
    """Wait until a host is done; ids of its completed jobs."""

    def ended() -> dict[str, Any] | None:
        document = state(host, run_id)
        return document if document is not None and document["meta"]["manager"] == "finished" else None

    document = wait_for(ended, say=f"the end of {run_id}")
    return [row["id"] for row in document["jobs"] if row["status"] == "completed"]


def ran(*hosts: Sshd) -> dict[str, int]:
    """How often each job ran, over all hosts."""
    found: dict[str, int] = {}
    for host in hosts:
        for path in workspace(host).glob("ran*"):
            found[path.name] = found.get(path.name, 0) + len(path.read_text().splitlines())
    return found


ONCE = {"ran1": 1, "ran2": 1, "ran3": 1, "ran4": 1}
