"""The verb diagnose, as it is typed: what it prints, its JSON, and what is said of what is no log."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from pathlib import Path

import pytest

from queue_manager.adapters.evidence import scan_log
from queue_manager.core import failure_advice
from queue_manager.core.boundary import Ended, ExitRecord
from queue_manager.core.diagnosis import LOG_BYTES
from queue_manager.core.judge import judge
from skill.cli import main
from skill.operations.diagnose_logs import Diagnosis, diagnose_logs
from tests.core.states import spec
from tests.core.test_diagnosis import CASES, CLASSES, GALLERY

ECC = b"""step 1
Traceback (most recent call last):
  File "x.py", line 1
RuntimeError: CUDA error: uncorrectable ECC error
"""


def diagnose(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(["diagnose", *arguments])
    done = capsys.readouterr()
    return code, done.out, done.err


def one(name: str) -> Diagnosis:
    (found,) = diagnose_logs([name])
    assert isinstance(found, Diagnosis)
    return found


def test_the_whole_gallery_at_once_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    names = list(CASES)
    code, out, err = diagnose(capsys, *(str(GALLERY / name / "job.log") for name in names), "--json")
    rows = json.loads(out)
    assert (code, err, len(rows)) == (0, "", len(names))
    for name, row in zip(names, rows, strict=True):
        assert list(row) == ["file", "class", "line_no", "line", "says"]
        assert row["class"] == ("healthy" if CASES[name]["class"] == "none" else CASES[name]["class"])
        assert row["says"], name
        if row["class"] == "healthy":
            assert (row["line_no"], row["line"]) == (None, None)
            continue
        text = (GALLERY / name / "job.log").read_bytes().split(b"\n")[row["line_no"] - 1].decode()
        assert row["line"].removesuffix("...") in text


def test_the_manager_of_a_job_says_the_same_and_why_advises_the_same() -> None:
    names = [name for name in CASES if CASES[name]["class"] not in ("healthy", "none", "traceback")]
    assert len(names) >= 150
    by_manager, by_verb = {}, {}
    for name in names:
        job = GALLERY / name / "job.log"
        finding, last = scan_log(job, CASES[name]["code"])
        ended = Ended(None, finding=finding, last_line=last)
        judged = judge(spec("a"), None, ExitRecord(CASES[name]["code"], 0), ended)
        found = one(str(job))
        by_manager[name] = judged.failure, failure_advice.of_failure(found.name, judged.error or "")
        by_verb[name] = found.name, found.says
    assert by_manager == by_verb


def test_each_class_has_its_advice() -> None:
    assert all(failure_advice.of_failure(name, "") for name in CLASSES)
    assert failure_advice.of_failure("bad_luck", "") is None


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("port_in_use_torch", "MASTER_PORT"), ("hub_429", "limits requests"),
        ("shm_of_nccl_is_full", "--shm-size"), ("bus_error_in_a_loader", "--ipc=host"),
        ("slurm_time_limit", "time limit of Slurm"), ("torch_without_cuda", "install a build"),
        ("illegal_memory_access", "CUDA_LAUNCH_BLOCKING"),
    ],
)  # fmt: skip
def test_a_line_that_is_known_gets_advice_of_its_own(case: str, words: str) -> None:
    assert words in one(str(GALLERY / case / "job.log")).says


def test_it_is_printed_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(ECC)
    (tmp_path / "b.log").write_bytes(b"step 1\nstep 2\n")
    code, out, _ = diagnose(capsys, str(tmp_path / "a.log"), str(tmp_path / "b.log"))
    assert code == 0
    assert out == (
        f"{tmp_path}/a.log:4: sick_card\n  | RuntimeError: CUDA error: uncorrectable ECC error\n"
        "  the GPU failed, not the job: have the GPU checked, then wavequeue resume\n"
        f"{tmp_path}/b.log: healthy\n\n2 logs: 1 sick_card, 1 healthy\n"
    )


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ECC)))
    code, out, _ = diagnose(capsys, "-", "--json")
    assert code == 0
    assert json.loads(out)[0]["file"] == "-"
    assert json.loads(out)[0]["line_no"] == 4


def test_of_a_file_of_a_gibibyte_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "large.log"
    with log.open("wb") as file:
        file.truncate((1 << 30) - LOG_BYTES)  # a hole, which takes no room
        file.seek(0, os.SEEK_END)
        file.write(b"step 1: loss 0.5\n" * ((LOG_BYTES - len(ECC)) // 17) + ECC)
    found = one(str(log))
    assert (found.name, found.line_no) == ("sick_card", None)
    assert found.says.endswith("only its last 4 MiB were read")


def test_of_a_stream_only_the_end_is_kept() -> None:
    (found,) = diagnose_logs(["-"], io.BytesIO(b"step 1: loss 0.5\n" * (3 * LOG_BYTES // 17) + ECC))
    assert isinstance(found, Diagnosis)
    assert (found.name, found.line_no) == ("sick_card", None)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(ECC,))
    writer.start()
    found = one(str(tmp_path / "pipe"))
    writer.join()
    assert (found.name, found.line_no) == ("sick_card", 4)


def test_what_cannot_be_read_is_reported_and_the_others_are_diagnosed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.log").write_bytes(ECC)
    Path("model.pt").write_bytes(bytes(range(256)) * 40)
    Path("old.log.gz").write_bytes(gzip.compress(ECC))
    Path("holes").write_bytes(b"\0" * 100)
    Path("logs").mkdir()
    code, out, err = diagnose(capsys, "trian.log", "model.pt", "train.log", "old.log.gz", "logs", "holes", "--json")
    assert code == 2
    assert [row["file"] for row in json.loads(out)] == ["train.log"]
    assert err.splitlines() == [
        "wavequeue: trian.log: no such file; did you mean train.log?",
        "wavequeue: model.pt: is not text: give the log that the job printed",
        "wavequeue: old.log.gz: is compressed: zcat LOG | wavequeue diagnose -",
        "wavequeue: logs: is a directory: give the logs in it, such as logs/*.log",
        "wavequeue: holes: is not text: give the log that the job printed",
    ]


def test_an_empty_log_shows_no_failure(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\n")
    assert one(str(tmp_path / "a.log"))[1:] == ("healthy", None, None, "it is empty: nothing has been written so far")


def test_a_log_that_was_cut_while_it_was_written_begins_with_a_hole(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\0" * 5000 + ECC)
    assert one(str(tmp_path / "a.log")).name == "sick_card"


def test_without_a_log_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = diagnose(capsys)
    assert code == 2
    assert "LOG" in err
