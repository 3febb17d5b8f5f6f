"""Rented machines that idle: the tree as a table, and that one is destroyed only while its results are here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.times import iso
from skill.common.errors import FailedError
from skill.fleet import confirm, ownership
from skill.fleet.idle_rule import DAY, GRACE, Destroy, Facts, Keep, Stop, SyncFirst, SyncThenDestroy, decide
from skill.hosts import probe
from skill.hosts.connection import Unreachable
from skill.hosts.health import ProbeResult
from skill.hosts.registry import Registry
from skill.operations import idle_machines, instances
from skill.providers.instances import RUNNING, STOPPED, Instance
from skill.providers.outcomes import Done
from skill.research.store import Store
from tests import in_process
from tests.memory_provider import MemoryProvider
from tests.skill.test_host_health import FACTS

IDLE = Facts(RUNNING, idle_s=2 * GRACE)


@pytest.mark.parametrize(
    ("facts", "kind", "says"),
    [
        (IDLE, Destroy, "it has idled for 1 h 00 min, and nothing is planned; its results are here"),
        (IDLE._replace(unsynced="run a"), SyncFirst, "not all of its results are here: run a"),
        (IDLE._replace(unsynced="run a", idle_s=DAY), SyncFirst, "run a"),
        (IDLE._replace(unsynced="run a", idle_s=DAY + 1), SyncThenDestroy, "idled for 24 h 00 min"),
        (IDLE._replace(idle_s=DAY + 1), Destroy, "its results are here"),
        (
            IDLE._replace(planned="1 run", storage_dph=0.01),
            Stop,
            "1 run; its disk costs $0.24 a day while stopped",
        ),
        (IDLE._replace(planned="1 run", unsynced="run a", idle_s=DAY + 1), Stop, "1 run"),
        (IDLE._replace(planned="1 run", status=STOPPED), Keep, "it is stopped, and 1 run"),
        (IDLE._replace(status=STOPPED), Destroy, "its results are here"),
        (IDLE._replace(status=STOPPED, unsynced="run a", idle_s=DAY + 1), Keep, "it is stopped, and not all"),
        (IDLE._replace(busy="it runs a", planned="1 run", idle_s=DAY + 1), Keep, "it runs a"),
        (IDLE._replace(unknown="no answer", idle_s=DAY + 1), Keep, "it could not be looked at: no answer"),
        (IDLE._replace(idle_s=None), Keep, "since when it idles is not known"),
        (IDLE._replace(idle_s=GRACE - 1), Keep, "it has idled for 29 min 59 s only"),
        (IDLE._replace(status="loading", idle_s=DAY + 1), Keep, "its instance is loading"),
    ],
)
def test_the_tree(facts: Facts, kind: type, says: str) -> None:
    found = decide(facts)
    assert type(found) is kind
    assert says in found.reason


WORDS = st.none() | st.just("words")


@given(
    st.builds(
        Facts, st.sampled_from([RUNNING, STOPPED, "offline", "loading"]), WORDS, WORDS, WORDS, WORDS,
        st.none() | st.floats(0, 1e7), st.none() | st.floats(0, 1),
    )
)  # fmt: skip
def test_nothing_is_destroyed_that_works_is_unknown_or_has_results(facts: Facts) -> None:
    found = decide(facts)
    if isinstance(found, Destroy | SyncThenDestroy):
        assert (facts.unknown, facts.busy, facts.planned) == (None, None, None)
        assert facts.idle_s is not None
        assert facts.idle_s >= GRACE
    if isinstance(found, Destroy):
        assert facts.unsynced is None
    if isinstance(found, SyncThenDestroy):
        assert facts.idle_s is not None
        assert facts.idle_s > DAY


class Fleet:
    """One rented machine, `vast1`, of a provider in memory, and what it answers."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.where = root / "workers.yaml"
        self.where.write_text(
            "workers:\n  vast1:\n    pool: gpus\n    instance_id: 7\n    ssh: {host: 203.0.113.9, port: 30007}\n",
            encoding="utf-8",
        )
        self.provider = MemoryProvider()
        self.provider.machines[7] = Instance(
            7, actual_status=RUNNING, cur_state=RUNNING, intended_status=RUNNING, dph=0.3, storage_dph=0.01,
            start_date=0.0,
        )  # fmt: skip
        self.runs: list[str] = []
        self.used_mib = self.disk_free_mib = 0
        self.idle_s = 2 * GRACE
        self.away = False
        self.risks: list[list[str]] = []
        """What is not here, look by look; the last one stays."""

        @contextmanager
        def connected() -> Iterator[MemoryProvider]:
            yield self.provider

        for module in (idle_machines, instances):
            monkeypatch.setattr(module, "connected", connected)
        monkeypatch.setattr(confirm, "_PAUSES", (0.0, 0.0))
        monkeypatch.setattr(probe, "probe_all", lambda hosts: {host.name: self.probe() for host in hosts})
        monkeypatch.setattr(ownership, "at_risk", lambda _where, _worker: self.risk())
        monkeypatch.chdir(root)

    def risk(self) -> list[str]:
        return [] if not self.risks else self.risks.pop(0) if len(self.risks) > 1 else self.risks[0]

    def probe(self) -> ProbeResult:
        if self.away:
            return ProbeResult(Unreachable("no route to host", "other"))
        now = 1_700_000_000.0
        document = {
            "python": {"version": "3.11"}, "time": iso(now), "heartbeat": iso(now - self.idle_s),
            "screen": {"version": "4.9"}, "disk_free_mib": self.disk_free_mib,
            "runs": [{"id": one, "pid": 1} for one in self.runs],
            "gpus": [{"index": 0, "name": "RTX 4090", "total_mib": 24564, "free_mib": 24564 - self.used_mib}],
        }  # fmt: skip
        return ProbeResult(FACTS, json.dumps(document).encode(), asked=now, answered=now)

    def look(self) -> idle_machines.Machine:
        (found,) = idle_machines.look(self.where)
        return found

    def apply(self) -> idle_machines.Machine:
        return idle_machines.apply(self.where, self.look(), lambda _: None)

    def queue(self, **columns: object) -> None:
        run = {"project": "p", "command": "x", "priority": 0, "state": "pending", "created": "2026-01-31T12:00:00Z"}
        Store(self.where).add("run", lambda _: [{**run, **columns}])


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path, monkeypatch)


def test_an_answer_that_cannot_be_read_ends_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "probe", lambda: ProbeResult(FACTS, b"Welcome!"))
    assert "it could not be looked at: its answer cannot be parsed" in fleet.apply().decision.reason
    assert fleet.provider.machines[7].status == RUNNING


def test_a_machine_that_idles_is_destroyed_and_its_worker_disabled(fleet: Fleet) -> None:
    assert isinstance(fleet.look().decision, Destroy)
    assert 7 in fleet.provider.machines, "to look changes nothing"
    assert "no longer exists and is not billed" in (fleet.apply().done or "")
    assert fleet.provider.machines == {}
    assert not Registry.load(fleet.where).workers["vast1"].enabled


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runs": ["r1"]}, "it runs r1"),
        ({"used_mib": 900}, "its GPU 0 is in use"),
        ({"away": True}, "it could not be looked at: no route to host"),
        ({"idle_s": 60.0}, "it has idled for 1 min 00 s only"),
    ],
)
def test_what_works_or_cannot_be_looked_at_goes_on(fleet: Fleet, change: dict[str, object], says: str) -> None:
    for name, value in change.items():
        setattr(fleet, name, value)
    found = fleet.apply()
    assert isinstance(found.decision, Keep)
    assert says in found.decision.reason
    assert (found.done, fleet.provider.machines[7].status) == (None, RUNNING)


def test_a_machine_with_runs_that_wait_for_its_pool_is_stopped(fleet: Fleet) -> None:
    fleet.queue(pool="others")
    assert isinstance(fleet.look().decision, Destroy)
    fleet.queue(pool="gpus")
    found = fleet.apply()
    assert "1 run may go to it: p-r2; its disk costs $0.24 a day" in found.decision.reason
    assert fleet.provider.machines[7].status == STOPPED
    assert isinstance(fleet.look().decision, Keep)


def test_a_queue_that_cannot_be_read_ends_nothing(fleet: Fleet) -> None:
    fleet.queue(pool="others")
    Store(fleet.where).paths.queue("run").write_text("[", encoding="utf-8")
    found = fleet.apply()
    assert "which runs are planned is not known" in found.decision.reason
    assert fleet.provider.machines[7].status == RUNNING


def test_results_that_are_not_here_are_pulled_and_a_day_later_it_is_destroyed_at_once(fleet: Fleet) -> None:
    fleet.risks = [["run a: x"], []]
    found = fleet.apply()
    assert (found.done, 7 in fleet.provider.machines) == ("its results are here now", True)
    fleet.idle_s, fleet.risks = DAY + 60, [["run a: x"], []]
    found = fleet.apply()
    assert isinstance(found.decision, SyncThenDestroy)
    assert fleet.provider.machines == {}


def test_a_machine_whose_results_do_not_come_is_not_destroyed(fleet: Fleet) -> None:
    fleet.idle_s, fleet.risks = DAY + 60, [["run a: x"]]
    assert fleet.apply().fault == "not all of its results could be pulled: run a: x"
    # They were here at the look, and are not at the deed:
    fleet.risks = [[], ["run a: x"]]
    found = fleet.apply()
    assert isinstance(found.decision, Destroy)
    assert "was not destroyed, for that would be lost" in (found.fault or "")
    assert 7 in fleet.provider.machines


def test_a_deletion_that_no_query_confirms_is_a_fault(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet.provider, "destroy", lambda _: Done())
    assert "was not confirmed as deleted; it may still be billed" in (fleet.apply().fault or "")


def test_where_it_is_not_known_what_is_rented_nothing_is_decided(fleet: Fleet) -> None:
    fleet.provider.away = True
    with pytest.raises(FailedError, match="the rented instances are unknown, so nothing was decided"):
        idle_machines.look(fleet.where)


def test_the_verb_is_dry_and_asks_before_it_does_anything(fleet: Fleet) -> None:
    def call(*options: str) -> in_process.Ended:
        return in_process.run(("hosts", "idle", *options), fleet.where.parent, dict(os.environ))

    printed = call()
    assert "vast1   7         destroy   it has idled for 1 h 00 min" in printed.stdout
    assert "nothing was changed; to do this: wavequeue hosts idle --apply" in printed.stdout
    assert call("--apply").returncode == 2
    assert 7 in fleet.provider.machines
    assert json.loads(call("--json").stdout)["machines"][0]["decision"] == "destroy"
    assert call("--apply", "--yes").returncode == 0
    assert fleet.provider.machines == {}
