"""What workers.yaml says of rented machines against what is so: findings and patches, by cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.fleet.drift import Identified, Report, judge, to_try
from skill.hosts.registry import Ssh, Worker
from skill.providers.instances import Address, Instance
from skill.providers.outcomes import Gone, Unknown

OLD, NEW = "ssh-ed25519 b2xk", "ssh-ed25519 bmV3"
DIRECT, PROXY = Address("direct", "203.0.113.7", 33526), Address("proxy", "ssh5.vast.ai", 10600)
STALE = Address("direct", "203.0.113.1", 22001)


def worker(at: Address = DIRECT, **fields: Any) -> Worker:
    values = {"health": {"status": "running"}, "resources": {"dph": 0.4, "storage_dph": 0.01}, **fields}
    return Worker("v", ssh=Ssh(at.host, at.port, "root"), instance_id=7, **values)


def live(**fields: Any) -> Instance:
    row = Instance(
        7, actual_status="running", cur_state="running", intended_status="running", public_ipaddr=DIRECT.host,
        ssh_port_direct=DIRECT.port, ssh_host=PROXY.host, ssh_port=PROXY.port, dph=0.4, storage_dph=0.01,
    )  # fmt: skip
    return row._replace(**fields)


STOPPED = live(actual_status="exited", cur_state="stopped", intended_status="stopped", ssh_port_direct=None)


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings]


def test_what_is_as_it_is_written_needs_nothing() -> None:
    for at in (DIRECT, PROXY):
        report = judge(worker(at), live(), [Identified(at, 7, OLD)], OLD)
        assert (report.findings, report.patch, report.key) == ((), {}, None)


def test_the_registered_address_is_tried_first_if_it_still_stands_else_the_direct_one() -> None:
    assert to_try(worker(DIRECT), live()) == (DIRECT, PROXY)
    assert to_try(worker(PROXY), live()) == (PROXY, DIRECT)
    assert to_try(worker(STALE), live()) == (DIRECT, PROXY), "an old address may be another customer's by now"
    assert to_try(worker(), STOPPED) == ()


def test_an_address_that_moved_is_corrected_with_its_host_key() -> None:
    report = judge(worker(STALE), live(), [Identified(DIRECT, None, fault="refused"), Identified(PROXY, 7, NEW)], OLD)
    assert kinds(report) == ["address"]
    assert report.patch == {"ssh.host": PROXY.host, "ssh.port": PROXY.port}
    assert report.key == NEW
    assert "SHA256" in report.findings[0].text
    assert judge(worker(STALE), live(), [Identified(DIRECT, 7, OLD)], OLD).key is None


def test_a_new_host_key_at_the_same_address_is_not_accepted() -> None:
    report = judge(worker(), live(), [Identified(DIRECT, 7, NEW)], OLD)
    assert kinds(report) == ["host_key"]
    assert (report.patch, report.key) == ({}, None)
    assert report.open


@pytest.mark.parametrize("answered", [8, None])
def test_an_address_is_not_believed_unless_the_instance_answers_there(answered: int | None) -> None:
    report = judge(
        worker(STALE), live(), [Identified(DIRECT, answered, NEW), Identified(PROXY, None, fault="refused")], OLD
    )
    assert kinds(report) == ["unreachable" if answered is None else "foreign"]
    assert (report.patch, report.key) == ({}, None)


def test_status_and_price_are_corrected() -> None:
    report = judge(
        worker(health={}, resources={"dph": 0.3, "storage_dph": 0.02, "gpus": 1}),
        live(dph=0.41239),
        [Identified(DIRECT, 7, OLD)],
        OLD,
    )
    assert kinds(report) == ["status", "price", "price"]
    assert report.patch == {"health.status": "running", "resources.dph": 0.4124, "resources.storage_dph": 0.01}
    mended = worker(resources={"dph": 0.4124, "storage_dph": 0.01})
    assert judge(mended, live(dph=0.41239), [Identified(DIRECT, 7, OLD)], OLD).findings == ()
    assert judge(worker(), live(dph=None), [Identified(DIRECT, 7, OLD)], OLD).findings == (), (
        "no price is no other price"
    )


def test_a_stopped_instance_is_reported_to_bill_its_disk() -> None:
    report = judge(worker(), STOPPED, [], OLD)
    assert report.patch == {"health.status": "stopped"}
    assert "is still billed ($0.0100 an hour)" in report.note


def test_one_that_has_gone_is_disabled_and_comes_back_if_it_does() -> None:
    report = judge(worker(), Gone(), [], OLD)
    assert (kinds(report), report.patch) == (["gone"], {"enabled": False, "health.status": "gone"})
    gone = worker(enabled=False, health={"status": "gone"})
    assert judge(gone, Gone(), [], OLD).findings == ()
    back = judge(gone, live(), [Identified(DIRECT, 7, OLD)], OLD)
    assert back.patch == {"enabled": True, "health.status": "running"}
    by_hand = judge(worker(enabled=False), live(), [Identified(DIRECT, 7, OLD)], OLD)
    assert by_hand.findings == (), "who disabled it by hand meant it"


@given(
    st.sampled_from([Unknown("down", "server"), Gone(), live(), live(dph=None), STOPPED]),
    st.lists(st.builds(Identified, st.sampled_from([DIRECT, PROXY]), st.sampled_from([None, 7, 8]), st.just(NEW))),
    st.booleans(),
)
def test_nothing_is_changed_by_what_is_not_known_or_not_its_own(
    seen: Instance | Gone | Unknown, identified: list[Identified], enabled: bool
) -> None:
    report = judge(worker(STALE, enabled=enabled), seen, identified, OLD)
    assert set(report.patch) <= {
        "ssh.host",
        "ssh.port",
        "enabled",
        "health.status",
        "resources.dph",
        "resources.storage_dph",
    }
    if isinstance(seen, Unknown):
        assert (report.patch, report.key) == ({}, None)
    if "ssh.host" in report.patch or report.key is not None:
        assert any(one.instance_id == 7 for one in identified)
    if report.patch.get("enabled") is False:
        assert isinstance(seen, Gone)
