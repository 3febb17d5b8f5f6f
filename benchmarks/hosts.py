"""Hosts: a submit of what has not changed, eight hosts beside one, and `status` over 80,000 jobs.

All hosts are on this machine, so what eight sshd and their sessions work counts against us; on real hosts it does not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import commands
from queue_manager.core.manifest import encode
from skill.hosts import bootstrap, registry
from skill.hosts.connection import Host, Unreachable
from skill.runs import assignment
from skill.runs.assignment import SUBMITTED, Assigned, Part, part_manifest
from skill.runs.directory import Run
from tests.core.test_overview import as_file
from tests.laptop import Laptop
from tests.skill.story import RUN_ID, Story, job, manifest
from tests.sshd import Sshd

HOSTS, JOBS, FILES, ROUNDS = 8, 10_000, 300, 5
PLAIN = {"environment": {"PATH": "/usr/local/bin:/usr/bin:/bin"}, "kex": None}
"""Hosts find what Debian has there, and no version manager's python, each call of which is a script of its own."""
SPEC = """
project: bench
cwd: code
phases:
  - name: hold
    grid: {{n: [{numbers}]}}
    template: {{id: "j${{n}}", cmd: tail -f /dev/null, gpus: 0}}
"""


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def submit(laptop: Laptop, *options: str) -> None:
    """Submit the spec that is there."""
    commands.run(laptop, "submit", "spec.yaml", "--poll", "0.1", "--json", *options)


def ssh(host: Sshd) -> list[str]:
    """OpenSSH's command for a host, up to its address."""
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    return ["ssh", "-p", str(host.port), "-i", str(host.key), *(part for one in options for part in ("-o", one))]


def reached(host: Sshd) -> None:
    """`ssh HOST true`."""
    subprocess.run([*ssh(host), f"root@{host.address}", "true"], check=True)


def bare(laptop: Laptop, host: Sshd) -> None:
    """What a submit of what has not changed is measured against: `ssh HOST true`, and `rsync -n` of the project."""
    reached(host)
    there = f"root@{host.address}:{host.home}/wavequeue/bench/"
    rsync = ["rsync", "-rltn", "-e", " ".join(ssh(host)), f"{laptop.project}/", there]
    subprocess.run(rsync, check=True, capture_output=True)


def submits() -> list[tuple[str, str]]:
    """Rows about submitting to one host, and to eight."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        laptop = Laptop(Path(folder))
        try:
            names = [f"h{n}" for n in range(HOSTS)]
            hosts = [laptop.host(name, new=True, network=PLAIN) for name in names]
            for n in range(FILES):
                (laptop.project / "code" / f"module_{n}.py").write_text(f"VALUE = {n}\n" * 40)
            one, all_of_them = ("--host", names[0]), [part for name in names for part in ("--host", name)]
            laptop.spec(SPEC.format(numbers="0"))
            first_one = seconds(lambda: submit(laptop, *one))
            base, again_one = [], []
            for _ in range(ROUNDS):
                base.append(seconds(lambda: bare(laptop, hosts[0])))
                again_one.append(seconds(lambda: submit(laptop, *one)))
            # Another manifest is another run, whose jobs the eight hosts share out.
            laptop.spec(SPEC.format(numbers=", ".join(str(n) for n in range(HOSTS))))
            first_all = seconds(lambda: submit(laptop, *all_of_them, "--again"))
            again_all = [seconds(lambda: submit(laptop, *all_of_them)) for _ in range(ROUNDS)]
        finally:
            laptop.close()
    plain, once, many = (statistics.median(values) for values in (base, again_one, again_all))
    return [
        (f"ssh true and rsync -n, {FILES} files", f"{plain:8.2f} s"),
        ("submit again, one host", f"{once:8.2f} s"),
        ("ratio", f"{once / plain:8.2f} x (at most 3)"),
        (f"submit again, {HOSTS} hosts", f"{many:8.2f} s"),
        ("ratio to one host", f"{many / once:8.2f} x (at most 2)"),
        (f"first submit, one host and {HOSTS}", f"{first_one:8.2f} s, {first_all:.2f} s"),
    ]


def follow() -> list[tuple[str, str]]:
    """Rows about `status` over eight hosts, each of which is half done with its jobs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        laptop = Laptop(Path(folder))
        try:
            jobs = {f"h{n}": tuple(f"h{n}_seed{i}" for i in range(JOBS)) for n in range(HOSTS)}
            hosts = {name: laptop.host(name, new=True, network=PLAIN) for name in jobs}
            _place(laptop, hosts, jobs)
            reach = [max(seconds(partial(reached, host)) for host in hosts.values()) for _ in range(ROUNDS)]
            looks = [seconds(lambda: commands.run(laptop, "status")) for _ in range(ROUNDS)]
        finally:
            laptop.close()
    slowest, look = statistics.median(reach), statistics.median(looks)
    return [
        ("slowest ssh true", f"{slowest:8.2f} s"),
        (f"status, {HOSTS} hosts of {JOBS:,} jobs", f"{look:8.2f} s"),
        ("beyond the slowest ssh true", f"{look - slowest:8.2f} s (at most 2)"),
    ]


def _place(laptop: Laptop, hosts: dict[str, Sshd], jobs: dict[str, tuple[str, ...]]) -> None:
    """A run on these hosts as it would lie there and here, without having run it."""
    whole = manifest(*(job(name, f"phase{n % 3}") for ids in jobs.values() for n, name in enumerate(ids)))
    run = Run.at(laptop.project / "experiment_queue" / RUN_ID)
    run.root.mkdir(parents=True)
    workers = registry.Registry.load(laptop.project / "workers.yaml")
    parts = [_part(registry.connect(workers.named(name), workers.path), ids) for name, ids in jobs.items()]
    for part in parts:
        story = Story(part_manifest(whole, part, RUN_ID), hosts[part.host].home / ".wavequeue" / "runs" / RUN_ID)
        story.complete(*part.jobs[: JOBS // 2])
        for name in part.jobs[JOBS // 2 : JOBS // 2 + 8]:
            story.start(name)
        paths = story.write()
        paths.state.write_bytes(as_file(json.loads(paths.state.read_text())))
    assignment.write(
        run, Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", str(laptop.project), tuple(parts))
    )
    run.paths.manifest.write_text(encode(whole))


def _part(host: Host, jobs: tuple[str, ...]) -> Part:
    facts = bootstrap.facts(host, None)
    assert not isinstance(facts, Unreachable)
    assert facts.python is not None
    bundle = bootstrap.bundle_for(facts)
    assert bootstrap.place_runtime(host, facts, bundle) is None
    host_id = bootstrap.claim_identity(host)
    assert isinstance(host_id, str)
    host.close()
    return Part(host.name, jobs, SUBMITTED, "w", "w/code", host_id, facts.python.path, bundle.digest, 1)


def main() -> None:
    """Print the table."""
    print(f"hosts on this machine, over ssh (medians of {ROUNDS})")
    for rows in (submits, follow):
        for name, value in rows():
            print(f"  {name:38} {value}", flush=True)


if __name__ == "__main__":
    main()
