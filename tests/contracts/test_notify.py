"""Alerts on their way: a real receiver on loopback and real commands, that answer, refuse, hang, die and come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager import notifier, notify_channel
from queue_manager.adapters import webhook
from queue_manager.adapters.named_values import NamedValues
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import QueueState
from queue_manager.notifier import Notifier
from tests.core.states import manifest, spec
from tests.core.test_simulate import bare
from tests.e2e.runs import wait_for
from tests.receiver import Receiver, receiver

WEBHOOK = ["", "HOOK", "/in/", "TOKEN", ""]
SECRET = "s3cr3t-0123456789"


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (notify_channel, "FIRST_WAIT", 0.02),
        (notify_channel, "LAST_WAIT", 0.05),
        (notify_channel, "RECHECK", 0.05),
        (notify_channel, "HURRY", 0.02),
    ):
        monkeypatch.setattr(module, name, value)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Desk:
    """A run whose events are told of by one manager after the other."""

    def __init__(self, root: Path, **rules: Any) -> None:
        self.paths = RunPaths.of(root / "experiment_queue" / "demo-1")
        self.paths.root.mkdir(parents=True)
        self.root = root
        self.state: QueueState = bare(manifest(*(spec(f"j{n}") for n in range(9)), notify=rules))
        self.records: list[Record] = []
        self.shown: list[str | None] = []
        self.manager = self.start()

    def env(self, **values: str) -> None:
        (self.root / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def start(self) -> Notifier:
        """A manager that begins, as one does that is started again."""
        named = NamedValues({"PATH": "/usr/bin:/bin"}, str(self.root))
        self.manager = Notifier(
            self.paths, self.state, {"PATH": "/usr/bin:/bin"}, named, str(self.root), "gpu-a", lambda: None, self._say
        )
        self.manager.catch_up(self.records)
        return self.manager

    def _say(self, kind: str, text: str | None) -> None:
        assert kind == "notify"
        if not self.shown or self.shown[-1] != text:
            self.shown.append(text)

    def flag(self, job: str, kind: str = "nan") -> Record:
        """A running job is flagged, and the manager takes note of it."""
        seq, at = self.state.seq, time.time()
        if self.state.job(job).attempt is None:
            starting = ev.AttemptStarting(job, 1, 1, f"s-{job}", "boot-1", (), ())
            self.state.apply(Record(seq + 1, at, starting))
            self.records.append(Record(seq + 1, at, starting))
            seq += 1
        record = Record(seq + 1, at, ev.HealthFlagged(job, 1, kind, "the loss is nan", "step 3 loss nan"))
        self.state.apply(record)
        self.records.append(record)
        self.manager.take([record])
        return record

    def works(self, what: Any) -> Any:
        """Let the manager turn until something is so."""

        def turn() -> Any:
            self.manager.work(time.time())
            return what()

        return wait_for(turn)

    def sent(self) -> list[tuple[int, int]]:
        try:
            rows = [json.loads(line) for line in self.paths.notified.read_text().splitlines()]
        except FileNotFoundError:
            return []
        return [(row["seq"], row["n"]) for row in rows]


def ids(there: Receiver) -> list[tuple[str, int]]:
    """What has arrived: id and n of each alert, also of those that came together."""
    documents = [json.loads(one.body) for one in there.got]
    return [(row["id"], row["n"]) for one in documents for row in one.get("alerts", [one])]


def test_each_alert_arrives_once_and_again_after_every_while_it_holds(tmp_path: Path, there: Receiver) -> None:
    desk = Desk(tmp_path, webhook=WEBHOOK, every=0.3)
    desk.env(HOOK=there.url, TOKEN=SECRET)
    names = [f"{desk.state.run_id}/{desk.flag(job).seq}" for job in ("j0", "j1")]

    def numbers(name: str) -> list[int]:
        return [n for what, n in ids(there) if what == name]

    desk.works(lambda: all(len(numbers(name)) >= 2 for name in names))
    cleared = Record(desk.state.seq + 1, time.time(), ev.HealthCleared("j0", 1, "nan"))
    desk.state.apply(cleared)
    over, on = len(numbers(names[0])), len(numbers(names[1]))
    desk.works(lambda: len(numbers(names[1])) >= on + 2)
    assert [numbers(name) for name in names] == [list(range(1, len(numbers(name)) + 1)) for name in names]
    assert len(numbers(names[0])) <= over + 1, "it no longer holds"
    assert {got.path for got in there.got} == {f"/in/{SECRET}"}
    assert SECRET not in desk.paths.notified.read_text()


def test_a_receiver_that_was_away_gets_what_it_missed_and_a_person_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, webhook=WEBHOOK)
    with receiver() as gone:
        port = gone.port
    desk.env(HOOK=f"http://127.0.0.1:{port}", TOKEN=SECRET)
    records = [desk.flag(f"j{n}") for n in range(3)]
    desk.works(lambda: desk.shown[-1:] != [None] and desk.shown)
    assert desk.shown[-1] == (
        "the webhook ${HOOK}/in/${TOKEN} cannot be reached: [Errno 111] Connection refused; its alerts wait, and it is "
        "tried again"
    )
    assert desk.sent() == []
    with receiver(port) as back:
        desk.works(lambda: len(desk.sent()) == 3)
        assert ids(back) == [(f"{desk.state.run_id}/{one.seq}", 1) for one in records]
        assert desk.shown[-1] is None


def test_a_later_manager_sends_what_none_has_written_down(tmp_path: Path, there: Receiver) -> None:
    desk = Desk(tmp_path, webhook=WEBHOOK)
    desk.env(HOOK=there.url, TOKEN=SECRET)
    first = desk.flag("j0")
    desk.works(lambda: desk.sent() == [(first.seq, 1)])
    second = desk.flag("j1")
    wait_for(lambda: len(there.got) == 2)
    # The manager is killed here: it has sent the second one, and has not written that down.
    desk.start()
    third = desk.flag("j2")
    desk.works(lambda: len(desk.sent()) == 3)
    name = desk.state.run_id
    assert ids(there) == [
        (f"{name}/{first.seq}", 1), (f"{name}/{second.seq}", 1), (f"{name}/{second.seq}", 1), (f"{name}/{third.seq}", 1)
    ]  # fmt: skip
    desk.paths.notified.open("a").write('{"to": "webhook", "se')  # a power cut
    desk.start()
    fourth = desk.flag("j3")
    desk.works(lambda: len(ids(there)) == 5)
    assert ids(there)[-1] == (f"{name}/{fourth.seq}", 1)
    desk.works(lambda: desk.sent()[-1] == (fourth.seq, 1))


@pytest.mark.parametrize("status", [401, 404, 410, 302])
def test_a_webhook_that_refuses_is_named_once_and_tried_with_another_url(
    tmp_path: Path, there: Receiver, status: int
) -> None:
    there.status, there.headers = status, {"Location": f"{there.url}/elsewhere"}
    desk = Desk(tmp_path, webhook=WEBHOOK)
    desk.env(HOOK=there.url, TOKEN=SECRET)
    first, second = desk.flag("j0"), desk.flag("j1")
    desk.works(lambda: len(there.refused) >= 3)
    assert [one for one in desk.shown if one] == [
        f"the webhook ${{HOOK}}/in/${{TOKEN}} takes no alerts: it answers {status}"
    ]
    assert there.got == [], "no redirect is followed"
    desk.manager.finish(lambda: pytest.fail("it waits for what refuses all"))
    with receiver() as other:
        desk.env(HOOK=other.url, TOKEN=SECRET)
        desk.works(lambda: len(desk.sent()) == 2)
        assert ids(other) == [(f"{desk.state.run_id}/{one.seq}", 1) for one in (first, second)]


def test_a_message_that_is_refused_keeps_none_of_the_others(tmp_path: Path, there: Receiver) -> None:
    desk = Desk(tmp_path, webhook=WEBHOOK)
    desk.env(HOOK=there.url, TOKEN=SECRET)
    there.status, there.reply_body = 400, f"no such thing as {SECRET}".encode()
    desk.flag("j0")
    desk.works(lambda: desk.shown[-1:] != [None] and desk.shown)
    assert (
        desk.shown[-1]
        == "the webhook ${HOOK}/in/${TOKEN} did not take an alert: it answers 400 (no such thing as ${TOKEN})"
    )
    there.status = 200
    second = desk.flag("j1")
    desk.works(lambda: ids(there) == [(f"{desk.state.run_id}/{second.seq}", 1)])
    desk.works(lambda: desk.shown[-1] is None)


def test_a_variable_that_is_set_late_is_waited_for(tmp_path: Path, there: Receiver) -> None:
    desk = Desk(tmp_path, webhook=WEBHOOK)
    desk.env(HOOK=there.url)
    desk.flag("j0")
    desk.works(lambda: desk.shown[-1:] != [None] and desk.shown)
    assert "takes no alerts: TOKEN is set neither in .env nor in the environment" in str(desk.shown[-1])
    desk.env(HOOK=there.url, TOKEN="t")
    desk.works(lambda: len(there.got) == 1)


def test_many_alerts_at_once_come_as_one_message(tmp_path: Path, there: Receiver) -> None:
    there.status = 503
    desk = Desk(tmp_path, webhook=WEBHOOK)
    desk.env(HOOK=there.url, TOKEN="t")
    records = [desk.flag(f"j{n}") for n in range(9)]
    wait_for(lambda: there.refused)
    there.status = 200
    desk.works(lambda: len(desk.sent()) == 9)
    assert sorted(ids(there)) == sorted((f"{desk.state.run_id}/{one.seq}", 1) for one in records)
    assert len(there.got) <= 2


def test_only_what_was_asked_for_is_sent(tmp_path: Path, there: Receiver) -> None:
    desk = Desk(tmp_path, webhook=WEBHOOK, on=["finished"])
    desk.env(HOOK=there.url, TOKEN="t")
    desk.flag("j0")
    record = Record(desk.state.seq + 1, time.time(), ev.RunFinished())
    desk.manager.take([record])
    desk.manager.finish(lambda: False)
    assert [(json.loads(one.body)["kind"], json.loads(one.body)["helps"]) for one in there.got] == [
        ("finished", f"wavequeue report --run {desk.state.run_id}")
    ]
    assert desk.sent() == [(record.seq, 1)]


def test_the_end_of_a_run_waits_for_a_receiver_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "AT_END", 0.2)
    desk = Desk(tmp_path, webhook=["http://127.0.0.1:1/"])
    desk.flag("j0")
    desk.manager.finish(lambda: False)
    assert "has not got 1 alert by the end of the run: [Errno 111] Connection refused" in str(desk.shown[-1])
    monkeypatch.setattr(notifier, "AT_END", 3600.0)
    desk.manager.finish(lambda: True)  # a person ends the manager


def test_a_command_gets_the_alert_and_its_variables(tmp_path: Path) -> None:
    desk = Desk(tmp_path, command='{ cat; printf "%s\\n" "${TOKEN}"; } >> out.txt', names=["TOKEN"])
    desk.env(TOKEN=SECRET)
    record = desk.flag("j0")
    desk.works(lambda: desk.sent() == [(record.seq, 1)])
    first, second = (tmp_path / "out.txt").read_text().splitlines()
    found = json.loads(first)
    assert (found["id"], found["job"], found["line"]) == (f"{desk.state.run_id}/{record.seq}", "j0", "step 3 loss nan")
    assert second == SECRET


def test_a_command_that_fails_is_given_up_after_some_tries_and_shows_no_secret(tmp_path: Path) -> None:
    desk = Desk(tmp_path, command='echo x >> tries.txt; echo "no $TOKEN here" >&2; exit 7', names=["TOKEN"])
    desk.env(TOKEN=SECRET)
    record = desk.flag("j0")
    desk.works(lambda: desk.sent() == [(record.seq, 1)])
    assert (tmp_path / "tries.txt").read_text().split() == ["x"] * notifier.COMMAND_TRIES
    assert desk.shown[-1] == "the command of notify did not take an alert: exit code 7: no ${TOKEN} here"


def test_a_command_that_hangs_is_killed_with_all_that_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "COMMAND_PATIENCE", 0.3)
    desk = Desk(tmp_path, command="sleep 1000 & echo $! > pid.txt; wait")
    desk.flag("j0")
    desk.works(desk.sent)
    pid = int((tmp_path / "pid.txt").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
    assert "killed after" in str(desk.shown[-1])


@pytest.mark.parametrize(
    ("url", "why"),
    [("gopher://etc/passwd", "does not begin with http"), ("http://[::1", "cannot be used"), ("http://a b/", ""),
     ("http://127.0.0.1:1/s3cret", "refused"), ("ftp://x/", "does not begin with http")],
)  # fmt: skip
def test_what_cannot_be_posted_is_said_without_the_url(url: str, why: str) -> None:
    found = webhook.post(url, b"x", {}, 1.0)
    assert found.status is None
    assert why in found.body
    assert "s3cret" not in found.body
    assert "passwd" not in found.body


def test_without_notify_nothing_is_done(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.state.manifest = desk.state.manifest._replace(notify=None)
    desk.start()
    desk.flag("j0")
    desk.manager.work(time.time())
    desk.manager.finish(lambda: False)
    assert not desk.paths.notified.exists()
    assert desk.manager.due() is None
