"""Watching over a run on real hosts from its launch to its end: what goes wrong on one of them is told at once."""

from __future__ import annotations

from skill.reports.checks import FIELDS
from skill.reports.status_file import NOTES
from tests.e2e.runs import pause
from tests.laptop import Laptop, workspace

JOBS = """
project: small
cwd: code
grace: 1s
jobs:
  - {id: well, gpus: 0, cmd: "n=0; until [ -e go ]; do n=$((n+1)); echo step $n/9000 loss 0.5; PAUSE; done"}
  - {id: bad, gpus: 0, cmd: "n=0; until [ -e go ]; do n=$((n+1)); echo step $n/9000 loss nan; PAUSE; done"}
  - id: odd
    gpus: 0
    cmd: "until [ -e fail ]; do PAUSE; done; echo 'ValueError: no such layer'; exit 3"
  - {id: last, gpus: 0, cmd: "until [ -e go ]; do PAUSE; done"}
""".replace("PAUSE", pause(0.2))


def test_a_run_on_two_hosts_is_watched_over_to_its_end(laptop: Laptop) -> None:
    hosts = laptop.host("gpu-a"), laptop.host("gpu-b")
    laptop.spec(JOBS)
    run_id = laptop.submit("--host", "gpu-a", "--host", "gpu-b")["run_id"]
    notes = laptop.project / "experiment_queue" / run_id / "STATUS.md"
    watching, lines = laptop.start("babysit", "--run", run_id), list[str]()
    assert watching.stdout is not None

    def reported(state: str) -> None:
        """Read what it tells, until it tells of this."""
        assert watching.stdout is not None
        while not (lines and state in lines[-1]):
            line = watching.stdout.readline()
            assert line, (state, lines, watching.communicate())
            lines.append(line.rstrip("\n"))

    reported("well:running")
    reported("bad:nan")
    notes.write_text(notes.read_text() + "I changed nothing.\n")
    for host in hosts:
        (workspace(host) / "fail").touch()
    reported("odd:stuck")
    for host in hosts:
        (workspace(host) / "go").touch()
    lines += [line.rstrip("\n") for line in watching.stdout]
    assert watching.wait() == 3
    assert lines[0].split() == list(FIELDS)
    rows = [line.split() for line in lines[1:] if not line.startswith(" ")]
    assert {len(row) for row in rows} == {len(FIELDS)}
    states = [row[1] for row in rows]
    assert {"well:completed", "bad:completed", "last:completed"} < set(states)
    assert [one for one in states if one.startswith("odd")] == ["odd:running", "odd:stuck"]
    assert any("loss nan" in line for line in lines), "log lines where something is wrong"
    assert any("ValueError: no such layer" in line for line in lines), "\n".join(lines)
    text = notes.read_text()
    assert text.partition(NOTES)[2].strip() == "I changed nothing."
    assert "gpu-a" in text
    assert "gpu-b" in text
