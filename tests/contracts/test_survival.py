"""Whether what is started outlives its session is tried: on a host that leaves it alone, and on one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.adapters import facts
from queue_manager.remote import start
from skill.hosts import survival
from skill.hosts.bootstrap import Facts, Python
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.registry import Ssh, Worker
from tests.sshd import Sshd
from tests.sshd_killing import make_killing

PYTHON = Python("3.11.2", "/usr/bin/python3")
FACTS = Facts("/root", PYTHON, "", "x86_64", None, None, 9, True, None, frozenset(), None, None, ended=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "host", bare=True) as made:
        yield made


def test_what_becomes_of_a_process_whose_session_ends_is_seen_and_kept(server: Sshd) -> None:
    host, root = Host(server.worker("a"), server.root / "known_hosts"), server.home / ".wavequeue"
    assert survival.fault(host, FACTS) is None
    assert facts.survival(root) == "plain"
    (root / "survival").unlink()
    make_killing(server, may_linger=False)
    host.close()
    fault = survival.fault(host, FACTS)
    assert str(fault).startswith("processes started there are killed when the SSH session ends")
    assert str(fault).endswith("run there as root: loginctl enable-linger root")
    assert facts.survival(root) is None
    host.close()


class Fake(Host):
    """A host that answers by a list."""

    def __init__(self, *answers: str | int | Unreachable) -> None:
        super().__init__(Worker("a", ssh=Ssh("h", 22, "me", None)), Path("/none"))
        self.answers = list(answers)

    def script(self, text: str, *args: str, **_: object) -> CommandResult | Unreachable:  # noqa: ARG002
        answer = self.answers.pop(0)
        if isinstance(answer, Unreachable):
            return answer
        return CommandResult(answer, b"", "") if isinstance(answer, int) else CommandResult(0, answer.encode(), "")


GONE = Unreachable("it refused the connection", "refused")


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (("7 99\n", "there\n"), None),
        (("7 99\n", "gone\n", 1), "run there as root: loginctl enable-linger me"),
        (("7 ", 1), "run there as root: loginctl enable-linger me"),
        (("7 99\n", "gone\n", 0, "7 99\n", "there\n"), None),
        (("7 99\n", "gone\n", 0, "7 99\n", "gone\n"), "and did not help: ask its administrator"),
        ((GONE,), "it refused the connection"),
        (("7 99\n", GONE), "it refused the connection"),
        (("7 99\n", "gone\n", GONE), "it refused the connection"),
    ],
)
def test_only_what_was_seen_is_concluded(
    answers: tuple[str | int | Unreachable, ...], says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Fake(*answers)
    monkeypatch.setattr(survival, "Host", lambda *_: host)
    found = survival.fault(host, FACTS)
    text = found.reason if isinstance(found, Unreachable) else found
    assert (text is None) == (says is None)
    assert says is None or (text or "").endswith(says)
    assert host.answers == []


def test_where_it_was_tried_nothing_is_asked() -> None:
    assert survival.fault(Fake(), FACTS._replace(survival="scope")) is None
    assert survival.fault(Host(Worker("a", kind="local"), Path("/none")), FACTS) is None


def test_what_was_tried_counts_until_the_host_starts_anew(tmp_path: Path) -> None:
    life = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for text, now, ever in (
        (f"{life} scope", "scope", "scope"),
        ("x plain", None, "plain"),
        (f"{life} rm", None, None),
    ):
        (tmp_path / "survival").write_text(text)
        assert (facts.survival(tmp_path), facts.survival(tmp_path, any_life=True)) == (now, ever)
    (tmp_path / "survival").write_bytes(b"\xff")
    assert facts.survival(tmp_path, any_life=True) is None
    assert start._SCOPE[0] == "systemd-run"
