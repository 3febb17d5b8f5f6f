"""What crosses the edge of the core, and what a journal calls it: types of their own, whatever their fields are."""

from __future__ import annotations

import dataclasses
import inspect
from types import ModuleType
from typing import Any, get_args

import pytest

from queue_manager.core import boundary, events, machine, readings
from queue_manager.core.boundary import Launch, Revoke
from queue_manager.core.events import JournalError, Record, decode, encode, name_of, seal
from tests.core.test_events import EXAMPLES

AT = 1767225600.123
BEGIN = '{"seq":7,"at":"2026-01-01T00:00:00.123Z","event":'

WRITTEN = [
    (
        '"RunStarted","run_id":"run-1","project":"demo",'
        '"manifest_sha256":"0000000000000000000000000000000000000000000000000000000000000000",'
        '"format":"wavequeue-journal","version":1'
    ),
    '"ManagerStarted","host":"gpu-a","pid":42,"boot":"boot-1"',
    '"ManagerStarted","host":"gpu-a","pid":43,"boot":"boot-2","away":5400.125',
    '"AttemptStarting","job":"a","n":1,"wave":1,"session":"wq.run-1.a.1","boot":"boot-1"',
    (
        '"AttemptStarting","job":"a","n":2,"wave":3,"session":"s","boot":"boot-1","cards":["GPU-0","GPU-1"],'
        '"indices":[0,1],"mib":9000,"used_mib":[4,5]'
    ),
    '"AttemptStarted","job":"a","n":1,"wrapper":[7,70],"screen":[6,60]',
    '"AttemptStarted","job":"a","n":1,"wrapper":[7,70],"screen":[6,60],"proc":[8,80]',
    '"AttemptStopping","job":"a","n":1,"reason":"timeout"',
    '"AttemptEnded","job":"a","n":1,"status":"completed","exit_code":0,"used_mib":[4]',
    '"JobAccepted","job":"a","by":"ada@laptop","reason":"the path in the spec was wrong"',
    '"LeftoversFound","job":"a","n":1,"fate":"wait","text":"1 process that it left running (python train.py)"',
    '"AttemptIdle","job":"a","n":1,"work":[1767225600.125,3.25,700,41,1767225600123456789]',
    (
        '"AttemptEnded","job":"a","n":1,"status":"failed_oom","failure":"oom","exit_code":1,"error":"out of memory",'
        '"due":1767225600.125,"used_mib":[4,5]'
    ),
    '"AttemptEnded","job":"a","n":1,"status":"pending","failure":"interrupted","charged":false',
    '"RetryDue","job":"a"',
    '"JobHeld","job":"a","reason":"x is not there"',
    '"JobHeld","job":"a","reason":null',
    '"JobStuck","job":"a","error":"needs 9 GPUs"',
    '"JobBlocked","job":"a","by":"t","error":"depends on t, which is stuck"',
    '"JobBlocked","job":"a","by":null,"error":"precondition does not hold"',
    '"JobUnblocked","job":"a"',
    '"JobCancelled","job":"a"',
    '"JobRetried","job":"a"',
    (
        '"JobsAdded","phases":[{"name":"students","depends_on":["teachers"],"match":["N"]}],"groups":{"g":["a","b"]},'
        '"specs":[{"id":"b","cmd":"true","phase":"students","depends_on":["t","g"],"gpus":0,'
        '"expected_output":"out/*.json","cwd":"sub","env":{"A":"ü"},"timeout":60.0,"priority":-1,"retries":2,'
        '"preconditions":[{"type":"file_exists","path":"x"}],"params":{"N":"010"},"metrics":["acc"]},{"id":"c",'
        '"cmd":"run c","phase":"main"}]'
    ),
    '"JobsChanged","changes":{"a":{"expected_output":null,"timeout":60.5,"priority":-1},"ü":{"retries":2}}',
    '"JobSkipped","job":"a"',
    '"CodeSeen","code":"3f9c2d1a7b0e+5b21c09e","since":1767225600.125',
    '"CodeSeen","code":null',
    '"Paused"',
    '"Resumed"',
    '"RequestTaken","id":"r1","ok":false,"text":"there is no job ü","jobs":["a"]',
    '"ConditionBegan","kind":"nvml","text":"NVML cannot be read: x\\ny"',
    '"ConditionEnded","kind":"nvml"',
    '"CardQuarantined","card":"GPU-0","reason":"job a: ECC"',
    '"RunFinished"',
    '"CompleteRan","code":1',
    '"BoundReached","kind":"max_cost","text":"the machine has cost its $12.50 (max_cost)"',
    '"ResultsPushed","upto":41',
    '"TeardownStarting","plan":"stop","instance":4711,"reason":"no job ran for 20m"',
    (
        '"TeardownStarting","plan":"destroy","instance":4711,"reason":"the run has finished; the results are home",'
        '"cost":3.25'
    ),
    '"TeardownCalledOff","reason":"run b works on this machine"',
    '"TeardownConfirmed","plan":"destroy","instance":4711',
    '"RunRepaired","text":"the journal was repaired","kept":"journal.jsonl.damaged-1"',
    '"ManagerStarted","host":"gpu-a","pid":43,"boot":"boot-2","ticks":4711',
    (
        '"MetricsRead","job":"a","metrics":{"eval.loss":0.25,"acc":null},"errors":{"acc":"no line of the log matches '
        "'x'\"}"
    ),
    ('"HealthFlagged","job":"a","n":1,"kind":"nan","text":"the loss is nan at step 300","line":"step 300 loss nan"'),
    '"HealthFlagged","job":"a","n":1,"kind":"slow","text":"1 steps/s","again":true',
    '"HealthCleared","job":"a","n":1,"kind":"nan"',
    '"AttemptEnded","job":"a","n":1,"status":"completed","exit_code":143,"outcome":"stopped_early"',
    '"RecoveryChosen","job":"a","n":1,"failure":"oom","rung":0,"action":"bs 16 instead of 32","cause":"out of memory"',
    '"RecoveryRan","job":"a","n":2,"code":1',
    '"RecoverySustained","job":"a","n":2',
]
"""What every version up to now has written for these events. Only ever add to it: journals of earlier versions hold
these lines."""


def line(written: str) -> str:
    return seal(f"{BEGIN}{written}}}") + "\n"


def test_an_event_is_the_same_line_forever() -> None:
    for event, written in zip(EXAMPLES, WRITTEN, strict=True):
        assert encode(Record(7, AT, event)) == line(written)
        read = decode(line(written))
        assert read == Record(7, AT, event)
        assert type(read.event) is type(event)


def test_an_event_has_the_name_of_the_table_whatever_its_class_is_called() -> None:
    kind, known = events.RetryDue, events.RetryDue.__name__
    kind.__name__ = "DelayOver"
    try:
        assert name_of(kind("a")) == "RetryDue"
        assert encode(Record(7, AT, kind("a"))) == line('"RetryDue","job":"a"')
        assert type(decode(line('"RetryDue","job":"a"')).event) is kind
    finally:
        kind.__name__ = known


def test_the_table_names_every_event_once() -> None:
    every = get_args(events.Event)
    assert len({name_of(object.__new__(kind)) for kind in every}) == len(every)


def test_a_field_of_a_later_version_is_passed_over() -> None:
    for written in WRITTEN:
        assert decode(line(f'{written},"later":{{"a":[1]}}')) == decode(line(written))


def test_a_field_that_is_not_known_is_damage_where_no_checksum_says_that_it_was_written() -> None:
    with pytest.raises(JournalError, match=r"event RetryDue cannot be read .it has jpb, which this version does not"):
        decode(BEGIN + '"RetryDue","job":"a","jpb":"b"}')
    with pytest.raises(JournalError, match=r"event RetryDue cannot be read .it lacks job"):
        decode(line('"RetryDue","jpb":"a"'))


def _types(*modules: ModuleType) -> list[Any]:
    return [
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and not issubclass(kind, Exception)
    ]


def test_what_crosses_the_edge_is_a_type_of_its_own_and_never_changes() -> None:
    kinds = _types(boundary, machine, readings) + list(get_args(events.Event))
    assert len(kinds) >= 69
    for kind in kinds:
        assert not issubclass(kind, tuple), kind
        blank: Any = object.__new__(kind)
        with pytest.raises(dataclasses.FrozenInstanceError):
            blank.order = 4


def test_equal_fields_do_not_make_two_actions_or_events_equal() -> None:
    actions: list[object] = [Launch(3), Revoke(3)]
    assert actions[0] != actions[1]
    happened: list[object] = [events.JobSkipped("a"), events.JobCancelled("a"), events.RetryDue("a"), ("a",)]
    assert [one for one in happened if one == happened[0]] == [happened[0]]
