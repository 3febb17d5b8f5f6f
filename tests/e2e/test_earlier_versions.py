"""What earlier versions wrote: runs go on, projects are read, whatever fields a later version may have added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.adapters.load import load
from queue_manager.core.events import seal, unseal
from queue_manager.core.layout import RunPaths
from queue_manager.core.requests import Request, encode_request
from tests import nvml
from tests.e2e.runs import Run, World
from tests.laptop import Laptop

DATA = Path(__file__).resolve().parents[1] / "data" / "v0_1"
RUNS = ("before_checksums", "with_checksums")
LATER = {"a": [1, None], "b": "x"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, nvml.Standin(tmp_path, nvml.cards(2)).env)
    yield made
    made.close()


def with_later_lines(text: str) -> str:
    """Lines of a journal with a field that no version knows yet, where they have a checksum: those without one were
    written by versions that are over."""
    found = []
    for line in text.splitlines():
        plain, had = unseal(line)
        more = {**json.loads(plain), "later": LATER}
        found.append(line if had is None else seal(json.dumps(more, separators=(",", ":"))))
    return "".join(f"{line}\n" for line in found)


def copied(name: str, to: Path) -> RunPaths:
    """A copy of a run, with fields of a later version in its journal and its state."""
    shutil.copytree(DATA / name, to, dirs_exist_ok=True)
    paths = RunPaths.of(to)
    paths.journal.write_text(with_later_lines(paths.journal.read_text()))
    document = json.loads(paths.state.read_text())
    document["meta"]["later"] = document["later"] = LATER
    for row in [*document["jobs"], *document["phases"], *document["gpus"]]:
        row["later"] = LATER
    paths.state.write_text(json.dumps(document))
    return paths


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_read_as_it_was_left(tmp_path: Path, name: str) -> None:
    for root in (DATA / name, copied(name, tmp_path / "later").root):
        found = load(RunPaths.of(root))
        statuses = {
            row["id"]: row["status"] for row in json.loads((DATA / name / "queue_state.json").read_text())["jobs"]
        }
        assert {job.spec.id: job.status.value for job in found.state.jobs} == statuses
        assert (statuses["oom"], statuses["flaky"], statuses["broken"]) == ("failed_oom", "failed_other", "stuck")
        assert not found.is_state_damaged
        assert found.manifest.grace == (10.0 if name == RUNS[0] else 30.0)
        assert found.manifest.errexit is (name != RUNS[0])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_whose_manager_was_killed_goes_on_to_its_end(host: World, name: str) -> None:
    copied(name, host.root / "run")
    run = Run(host, host.root / "run", 0.2)
    host.runs.append(run)
    (run.directory / "go").touch()
    run.paths.inbox.mkdir(exist_ok=True)
    for job in ("broken", "oom", "flaky"):  # asked of a manager that has ended the run they would come too late
        run.paths.request(f"retry-{job}").write_text(encode_request(Request(f"retry-{job}", "retry", (job,))))
    run.start()
    assert run.finish() == 3, run.story()
    rows = run.jobs()
    unlike = {job: row["status"] for job, row in rows.items() if row["status"] != "completed"}
    assert unlike == {"unwanted": "cancelled"}
    assert rows["s1_N384"]["attempt"] == 2
    assert rows["s1_N384"]["attempts"] == 1, "the machine went down under the first, which costs the job nothing"
    assert rows["teacher_N384"]["attempt"] == 1, "what was done is not done again"


@pytest.fixture
def project(laptop: Laptop) -> Laptop:
    """The project of an earlier version, with fields of a later one in all that programs write."""
    source = DATA / "project"
    shutil.copytree(source / "runs", laptop.project / "experiment_queue")
    shutil.copytree(source / "code", laptop.project / "code", dirs_exist_ok=True)
    for name in ("workers.yaml", "vast.yaml"):
        shutil.copy(source / name, laptop.project / name)
    (laptop.project / ".wavequeue").mkdir()
    lines = map(json.loads, (source / "ledger.jsonl").read_text().splitlines())
    ledger = "".join(json.dumps({**line, "later": LATER}) + "\n" for line in lines)
    (laptop.project / ".wavequeue" / "ledger.jsonl").write_text(ledger)
    (hosts,) = laptop.project.glob("experiment_queue/*/hosts.json")
    assigned = json.loads(hosts.read_text())
    assigned["source"] = str(laptop.project)
    for row in [assigned, *assigned["parts"]]:
        row["later"] = LATER
    hosts.write_text(json.dumps(assigned))
    return laptop


def test_a_project_with_hosts_is_read_though_its_hosts_are_gone(project: Laptop) -> None:
    (run_id,) = project.runs()
    # Both hosts have ended, and nobody listens where they were: what was pulled last is shown.
    document = json.loads(project.call("status", "--json", "--run", run_id)[0])
    assert document["counts"] == {"completed": 4}
    report = project.call("report", "--run", run_id)[0]
    assert report.startswith(f"# {run_id}: 4 of 4 jobs completed\n")
    assert "| gpu-b | finished when last read" in report
    hosts = json.loads(project.call("hosts", "list", "--json")[0])
    assert [row["name"] for row in hosts["hosts"]] == ["gpu-a", "gpu-b", "vast1"]
    ledger = json.loads(project.call("vast", "ledger", "--json")[0])["rentals"]
    assert [(row["worker"], row["state"]) for row in ledger] == [
        ("vast1", "gone"), ("vast1", "destroyed"), ("vast1", "ready"),
    ]  # fmt: skip
