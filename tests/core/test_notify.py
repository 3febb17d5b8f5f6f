"""What people are told who asked for it: which alerts, each once and again while it holds, and in whose shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core import notify_services
from queue_manager.core.events import Record
from queue_manager.core.notify_book import Book
from queue_manager.core.notify_messages import Alert, AlertReader, Sending, Source, holds, payload, text
from queue_manager.core.notify_rules import ON, is_notify, notify
from queue_manager.core.notify_services import Answer, body, judge, shape_of
from tests.core.states import manifest, run_to_end, spec, until, world
from tests.fakes import Plan, with_plans

SOURCE = Source("demo-1", "demo", "gpu-a")
STUCK = Alert(7, 1000.0, "stuck", "stuck", "a", "exit code 1: ValueError: <no> & yes")
FLAG = Alert(9, 1060.0, "unhealthy", "unhealthy", "b", "nan: the loss is nan at step 3", "step 3 loss nan", "nan")
END = Alert(12, 2000.0, "finished", "finished", None, "the run has finished in 2 h 00 min: 1 stuck")


def read(*events: ev.Event) -> list[Alert]:
    """The alerts among events, at the seqs 1, 2, …"""
    _, manager = world(spec("a"))
    reader = AlertReader()
    found = [reader.take(Record(seq, 100.0 + seq, event), manager.state) for seq, event in enumerate(events, 1)]
    return [one for one in found if one is not None]


@pytest.mark.parametrize(
    ("event", "notice"),
    [
        (ev.AttemptEnded("a", 1, "stuck", "exit_code", 1, "exit code 1"), ("stuck", "stuck", "a", "")),
        (ev.HealthFlagged("a", 1, "nan", "the loss is nan", "loss nan"), ("unhealthy", "unhealthy", "a", "nan")),
        (ev.AttemptStopping("a", 1, "timeout"), ("timeout", "unhealthy", "a", "")),
        (ev.ConditionBegan("disk", "disk full"), ("disk", "disk", None, "disk")),
        (ev.ConditionBegan("card:GPU-0", "GPU 0: fell off"), ("card", "card", None, "card:GPU-0")),
        (ev.ConditionBegan("node:n2", "node n2 is out"), ("node", "card", None, "node:n2")),
        (ev.ConditionBegan("nvml", "NVML cannot be read"), ("nvml", "card", None, "nvml")),
        (ev.ConditionBegan("need:2:None", "no 2 GPUs"), ("need", "stuck", None, "need:2:None")),
        (ev.ConditionBegan("prompt:a", "job a asks"), ("prompt", "stuck", "a", "prompt:a")),
        (ev.CardQuarantined("GPU-1", "3 jobs failed"), ("quarantine", "card", None, "GPU-1")),
        (ev.BoundReached("max_cost", "max_cost is reached"), ("max_cost", "stuck", None, "")),
        (ev.RunFinished(), ("finished", "finished", None, "")),
    ],
)
def test_each_alert_has_its_word_of_on(event: ev.Event, notice: tuple[Any, ...]) -> None:
    (found,) = read(event)
    assert (found.kind, found.on, found.job, found.about) == notice
    assert found.on in ON


@pytest.mark.parametrize(
    "event",
    [ev.AttemptEnded("a", 1, "failed_oom"), ev.AttemptEnded("a", 1, "completed"), ev.ConditionEnded("disk"),
     ev.HealthFlagged("a", 1, "nan", "nan", again=True), ev.ConditionEnded("nvml")],
)  # fmt: skip
def test_what_passes_by_itself_is_not_sent(event: ev.Event) -> None:
    assert read(event) == []


def test_a_condition_in_other_words_is_told_once_until_it_is_over() -> None:
    full = [ev.ConditionBegan("disk", f"{mib} MiB left") for mib in (3, 2, 1)]
    assert [one.text for one in read(*full, ev.ConditionEnded("disk"), full[1])] == ["3 MiB left", "2 MiB left"]


def test_what_holds_is_seen_in_the_state() -> None:
    host, manager = world(spec("a"), spec("b"), max_parallel=1)
    host.plan_of = with_plans({"a": Plan(code=1)}, Plan())
    until(host, manager, "a", "stuck")
    assert holds(manager.state, STUCK)
    assert not holds(manager.state, STUCK._replace(job="b"))
    assert not holds(manager.state, STUCK._replace(job="not there"))
    assert not holds(manager.state, FLAG)
    seq = manager.state.seq
    manager.state.apply(Record(seq + 1, host.now, ev.ConditionBegan("disk", "full")))
    disk = Alert(seq + 1, host.now, "disk", "disk", None, "full", about="disk")
    assert holds(manager.state, disk)
    manager.state.apply(Record(seq + 2, host.now, ev.ConditionEnded("disk")))
    assert not holds(manager.state, disk)
    run_to_end(host, manager)
    assert not holds(manager.state, END)


def test_each_alert_is_sent_once_and_again_while_it_holds() -> None:
    book = Book(60.0, {})
    first = book.take(STUCK)
    assert first == Sending(STUCK, 1)
    assert book.due() is None, "it is on its way"
    book.sent(Sending(STUCK, 1), 1000.0)
    assert book.due() == 1060.0
    assert book.again(1059.0, lambda _: True) == []
    assert book.again(1060.0, lambda _: True) == [Sending(STUCK, 2)]
    assert book.again(1061.0, lambda _: True) == [], "it is on its way"
    book.sent(Sending(STUCK, 2), 1062.0)
    assert book.due() == 1122.0
    assert book.again(1122.0, lambda _: False) == [], "it no longer holds"
    assert book.due() is None


def test_a_later_manager_sends_what_was_not_sent_and_goes_on_counting() -> None:
    book = Book(60.0, {7: (3, 5000.0)})
    assert book.take(STUCK) is None
    assert book.take(FLAG) == Sending(FLAG, 1)
    assert book.again(5060.0, lambda _: True) == [Sending(STUCK, 4)]


def test_a_message_says_what_happened_the_log_line_and_what_helps() -> None:
    assert text([Sending(FLAG)], SOURCE, 1061.0).splitlines() == [
        "wavequeue demo-1 on gpu-a: job b: unhealthy",
        "nan: the loss is nan at step 3",
        "log: step 3 loss nan",
        "next: wavequeue logs b --run demo-1 -n 50",
    ]
    assert "job a: stuck (still, after 1 h 00 min)" in text([Sending(STUCK, 2)], SOURCE, 4600.0)
    document = payload([Sending(FLAG, 2)], SOURCE, 1061.0)
    assert document == {
        "run_id": "demo-1", "project": "demo", "host": "gpu-a", "id": "demo-1/9", "n": 2,
        "at": "1970-01-01T00:17:40.000Z", "kind": "unhealthy", "on": "unhealthy", "job": "b",
        "text": "nan: the loss is nan at step 3", "line": "step 3 loss nan",
        "helps": "wavequeue logs b --run demo-1 -n 50",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("alert", "away", "helps"),
    [
        (STUCK, False, "wavequeue why a --run demo-1"),
        (END, False, "wavequeue report --run demo-1"),
        (END, True, "wavequeue pull demo-1"),
        (STUCK._replace(kind="prompt"), False, "wavequeue attach a --run demo-1"),
        (STUCK._replace(kind="quarantine", job=None), False, "wavequeue resume --run demo-1"),
        (STUCK._replace(kind="disk", on="disk", job=None), False, "wavequeue status --run demo-1"),
    ],
)
def test_the_command_that_helps_fits_the_alert(alert: Alert, away: bool, helps: str) -> None:
    source = SOURCE._replace(away=away)
    assert payload([Sending(alert)], source, 0.0)["helps"] == helps
    assert text([Sending(alert)], source, 2000.0).endswith(f"next: {helps}")


def test_many_alerts_are_one_message_that_tells_of_all() -> None:
    many = [Sending(STUCK._replace(seq=n, job=f"j{n}")) for n in range(3, 43)]
    lines = text(many, SOURCE, 1000.0).splitlines()
    assert lines[0] == "wavequeue demo-1 on gpu-a: 40 alerts"
    assert lines[-2:] == ["and 35 more", "next: wavequeue status --run demo-1"]
    document = payload(many, SOURCE, 1000.0)
    assert document["id"] == "demo-1/3-42"
    assert [one["id"] for one in document["alerts"]] == [f"demo-1/{n}" for n in range(3, 43)]


@pytest.mark.parametrize(
    ("url", "shape"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"), ("HTTPS://Hooks.Slack.com/services/T/B/x", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"), ("https://canary.discord.com/api/webhooks/1/x", "discord"),
        ("https://ntfy.sh/topic", "ntfy"), ("https://ntfy.example.org:8443/topic", "ntfy"),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/x", "feishu"),
        ("https://open.larksuite.com/open-apis/bot/v2/hook/x", "feishu"),
        ("http://127.0.0.1:8000/hooks.slack.com", "json"), ("https://hooks.slack.com.example.org/x", "json"),
        ("https://hooks.slack.com@example.org/x", "json"), ("", "json"),
    ],
)  # fmt: skip
def test_the_shape_is_known_by_the_host(url: str, shape: str) -> None:
    assert shape_of(url) == shape


def test_each_service_gets_its_own_shape() -> None:
    def made(shape: str, *alerts: Alert) -> tuple[bytes, dict[str, str]]:
        return body(shape, [Sending(one) for one in alerts], SOURCE, 1000.0)

    assert "&lt;no&gt; &amp; yes" in json.loads(made("slack", STUCK)[0])["text"]
    discord = json.loads(made("discord", STUCK._replace(text="@everyone " + "x" * 5000))[0])
    assert discord["allowed_mentions"] == {"parse": []}
    assert len(discord["content"]) <= 2000
    feishu = json.loads(made("feishu", STUCK)[0])
    assert feishu["msg_type"] == "text"
    assert "<no> & yes" in feishu["content"]["text"]
    data, headers = made("ntfy", *[STUCK._replace(text="损失" * 600)] * 5)
    assert len(data) <= 4096
    assert data.decode().startswith("wavequeue demo-1")
    assert (headers["Title"], headers["Priority"]) == ("wavequeue demo", "high")
    assert made("ntfy", END)[1]["Priority"] == "default"
    assert json.loads(made("json", STUCK)[0])["id"] == "demo-1/7"


@pytest.mark.parametrize(
    ("shape", "status", "reply_body", "retry_after", "answer"),
    [
        ("json", 204, "", None, Answer()),
        ("slack", 404, "no_service", None, Answer("it answers 404 (no_service)", lasting=True)),
        ("json", 401, "", None, Answer("it answers 401", lasting=True)),
        ("json", 410, "<html>gone</html>", None, Answer("it answers 410", lasting=True)),
        ("json", 302, "", None, Answer("it answers 302", lasting=True)),
        ("json", 400, "bad", None, Answer("it answers 400 (bad)")),
        ("json", 503, "", None, Answer("it answers 503", later=True)),
        ("discord", 429, "", "17.5", Answer("it answers 429", later=True, wait=17.5)),
        ("slack", 429, "", "Wed, 21 Oct 2026 07:28:00 GMT", Answer("it answers 429", later=True)),
        ("json", 429, "", "999999", Answer("it answers 429", later=True, wait=600.0)),
        ("feishu", 200, '{"code": 0, "msg": "success"}', None, Answer()),
        ("feishu", 200, '{"code": 19001, "msg": "token invalid"}', None,
         Answer("it answers code 19001 (token invalid)", lasting=True)),
        ("feishu", 200, '{"code": 11232, "msg": "limited"}', None,
         Answer("it answers code 11232 (limited)", later=True)),
        ("feishu", 200, "[]", None, Answer()),
    ],
)  # fmt: skip
def test_what_an_answer_means(
    shape: str, status: int, reply_body: str, retry_after: str | None, answer: Answer
) -> None:
    assert judge(shape, status, reply_body, retry_after) == answer


@pytest.mark.parametrize(
    "value",
    [{}, {"on": ["stuck"]}, {"webhook": []}, {"webhook": ["a", "b"]}, {"webhook": ["a", "b-c", "d"]}, {"command": ""},
     {"command": "x", "every": 0}, {"command": "x", "on": ["died"]}, {"command": "x", "shape": "teams"}, "x", []],
)  # fmt: skip
def test_a_manifest_may_not_have_just_anything(value: Any) -> None:
    assert not is_notify(value)


def test_the_rules_of_a_manifest_are_read() -> None:
    assert notify(None) is None
    made = {"command": "send ${TOKEN}", "names": ["TOKEN"], "webhook": ["https://x/", "PATH_OF_IT", ""], "every": 60}
    assert is_notify(made)
    rules = notify(made)
    assert rules is not None
    assert rules.variables == ("PATH_OF_IT", "TOKEN")
    assert rules.shown == "https://x/${PATH_OF_IT}"
    assert rules.on == frozenset(ON)
    assert notify(manifest(spec("a")).notify) is None
    assert notify_services.shape_of(rules.shown) == "json"
