"""The reading of cards: the real pynvml over the stand-in library, in a process of its own as a manager is."""

from __future__ import annotations

import ctypes
import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.adapters import gpus
from queue_manager.adapters.gpus import visible
from queue_manager.core.readings import Card, Cards, SickCard, Unreadable
from tests import forked, nvml
from tests.e2e.runs import PATIENCE
from tests.nvml import NOT_SUPPORTED, UNKNOWN, Standin, StandinCard, alloc, cards

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((ROOT / "tests" / "data" / "visible").glob("*.json"))


class Reader:
    """A process with an Nvml. `environment`: of it, beside that of the tests; `arguments`: of Nvml."""

    def __init__(self, questions: Path, environment: dict[str, str], is_forked: bool, **arguments: Any) -> None:
        os.mkfifo(questions)
        self._questions = os.open(questions, os.O_RDWR)
        variables = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        variables.update(environment)
        words = [str(questions), json.dumps(arguments)]
        self.process: subprocess.Popen[str] | forked.Forked
        if is_forked:
            self.process = forked.start("tests.nvml_reader", words, ROOT, variables)
        else:
            argv = [sys.executable, "-m", "tests.nvml_reader", *words]
            self.process = subprocess.Popen(argv, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        os.close(self._questions)

    def raw(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        os.write(self._questions, b"read\n")
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def read(self) -> Cards | Unreadable:
        line = self.raw()
        if line["cards"] is None:
            return Unreadable(line["reason"])
        found = tuple(Card(**card) for card in line["cards"])
        return Cards(found, tuple(SickCard(**card) for card in line["sick"]), line["note"])

    def cards(self) -> Cards:
        found = self.read()
        assert isinstance(found, Cards), found
        return found

    def used(self) -> list[int]:
        return [card.used_mib for card in self.cards().cards]


Open = Callable[..., Reader]


@pytest.fixture
def open_reader(tmp_path: Path) -> Iterator[Open]:
    readers: list[Reader] = []

    def make(standin: Standin, environment: dict[str, str] | None = None, **arguments: Any) -> Reader:
        more = environment or {}
        is_forked = "LD_LIBRARY_PATH" not in more  # else whoever forks it would be started for it alone
        readers.append(Reader(tmp_path / f"reader{len(readers)}", {**standin.env, **more}, is_forked, **arguments))
        return readers[-1]

    yield make
    for reader in readers:
        reader.end()


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)


def test_the_slices_of_a_divided_card_are_cards_of_their_own(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, [])
    whole = [StandinCard("GPU-a", "NVIDIA A", 40960), StandinCard("GPU-b", "NVIDIA B", 81920), StandinCard("GPU-c")]
    slices = [StandinCard("MIG-1", "NVIDIA A MIG 1g.5gb", 4864, 12, None), StandinCard("MIG-2", "x", 9856, 5000, None)]
    standin.divide({0: slices, 2: []}, whole)
    reader = open_reader(standin, relook=0.0)
    found = reader.read()
    assert isinstance(found, Cards)
    assert found.cards == (
        Card(100, "MIG-1", "NVIDIA A MIG 1g.5gb", 4864, 12, None),
        Card(101, "MIG-2", "x", 9856, 5000, None),
        Card(1, "GPU-b", "NVIDIA B", 81920, 3, 0),
    )
    assert [(sick.index, sick.uuid) for sick in found.sick] == [(2, "GPU-c")]
    assert "nvidia-smi -i 2 -mig 0" in found.sick[0].reason
    standin.ecc({0: 3})
    wait_for(lambda: "ECC" in str(reader.read()))
    found = reader.read()
    assert isinstance(found, Cards)
    assert [sick.index for sick in found.sick] == [100, 101, 2], "what is wrong with a GPU is wrong with its slices"
    standin.heal()
    standin.divide({}, whole)
    wait_for(lambda: [card.index for card in cards_of(reader.read())] == [0, 1, 2])


def cards_of(found: Cards | Unreadable) -> tuple[Card, ...]:
    return found.cards if isinstance(found, Cards) else ()


def reason(found: Cards | Unreadable | None) -> str:
    assert isinstance(found, Unreadable), found
    return found.reason


# -- what is read ---------------------------------------------------------------------------------------------------


def test_a_reading_has_what_nvml_tells(tmp_path: Path, open_reader: Open) -> None:
    rows = [StandinCard("GPU-a", "NVIDIA A", 24576, 1000, 37), StandinCard("GPU-b", "NVIDIA B", 81920, 3, None)]
    reader = open_reader(Standin(tmp_path, rows))
    assert reader.read() == Cards(
        (Card(0, "GPU-a", "NVIDIA A", 24576, 1000, 37), Card(1, "GPU-b", "NVIDIA B", 81920, 3, None))
    )
    assert [card.free_mib for card in reader.cards().cards] == [23576, 81917]


def test_every_read_is_fresh(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(2))
    reader = open_reader(standin)
    assert reader.used() == [3, 3]
    with standin.busy(1, 5000):
        assert reader.used() == [3, 5003]
    assert reader.used() == [3, 3]


def test_what_the_driver_keeps_for_itself_is_not_used(tmp_path: Path, open_reader: Open) -> None:
    """Else an idle A100 would never be below the threshold; and it is not free for jobs either."""
    row = StandinCard("GPU-a", total_mib=40960, base_mib=4, reserved_mib=900)
    (card,) = open_reader(Standin(tmp_path, [row])).cards().cards
    assert (card.total_mib, card.used_mib, card.free_mib) == (40060, 4, 40056)


@pytest.mark.parametrize("code", [nvml.FUNCTION_NOT_FOUND, nvml.NOT_SUPPORTED, 25])
def test_a_driver_without_the_second_version_of_the_call(tmp_path: Path, open_reader: Open, code: int) -> None:
    standin = Standin(tmp_path, [StandinCard("GPU-a", total_mib=16000, base_mib=700)])
    standin.fail(code, "nvmlDeviceGetMemoryInfo_v2")
    reader = open_reader(standin)
    for _ in range(2):
        assert reader.read() == Cards((Card(0, "GPU-a", "NVIDIA Stand-in", 16000, 700, 0),))


def test_memory_is_rounded_so_that_no_more_seems_free_than_is(tmp_path: Path, open_reader: Open) -> None:
    reader = open_reader(Standin(tmp_path, [StandinCard("GPU-a", total_mib=1000, base_mib=499.25)]))
    assert reader.used() == [500]


def test_utilization_is_never_needed(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    standin.fail(nvml.UNKNOWN, "nvmlDeviceGetUtilizationRates")
    assert [card.util for card in open_reader(standin).cards().cards] == [None]


def test_no_cards(tmp_path: Path, open_reader: Open) -> None:
    assert open_reader(Standin(tmp_path, [])).read() == Cards((), (), "NVML lists no GPUs on this host")


# -- a job's memory comes and goes with its process --------------------------------------------------------------------


def _job(standin: Standin, visible: str, *lines: str) -> subprocess.Popen[str]:
    """A job with these cards, which ends when its stdin is closed."""
    return subprocess.Popen(
        ["bash", "-c", "\n".join([*lines, "echo ready", "read -r _"])],
        env={**os.environ, **standin.env, "CUDA_VISIBLE_DEVICES": visible},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_memory_is_held_on_each_card_of_a_job_until_it_ends(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(3))
    reader = open_reader(standin)
    with _job(standin, f"2,{cards(3)[0].uuid}", alloc(2000)) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        assert reader.used() == [2003, 3, 2003]
        job.kill()
        # Not yet reaped: a zombie holds nothing.
        wait_for(lambda: reader.used() == [3, 3, 3])


def test_a_job_that_finds_too_little_left_dies_as_pytorch_does(tmp_path: Path) -> None:
    standin = Standin(tmp_path, cards(2, total_mib=1000))
    with standin.busy(1, 900), _job(standin, "0,1", alloc(100)) as job:
        output, _ = job.communicate("")
        assert job.returncode == 1
        assert "torch.cuda.OutOfMemoryError: CUDA out of memory." in output
    assert not list((standin.world / "alloc").iterdir())
    with _job(standin, "0,1", alloc(997)) as job:
        assert job.communicate("")[0] == "ready\n"


def test_a_job_without_a_card_cannot_take_memory(tmp_path: Path) -> None:
    with _job(Standin(tmp_path, cards(1)), "", alloc(1)) as job:
        assert "No CUDA GPUs are available" in job.communicate("")[0]
        assert job.returncode == 1


def test_freed_memory_can_linger(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    first, second = open_reader(standin), open_reader(standin)
    with _job(standin, "0", alloc(2000, linger_ms=600_000)) as job:
        assert job.stdout is not None
        job.stdout.readline()
        assert first.used() == [2003]
        assert not list((standin.world / "alloc").glob("*.dead"))
        job.communicate("")
    assert first.used() == [2003]
    # The time of death is on disk, so that all processes see the same end of it.
    (death,) = (standin.world / "alloc").glob("*.dead")
    died = death.stat().st_mtime
    assert second.used() == [2003]
    assert death.stat().st_mtime == died
    os.utime(death, (died - 601, died - 601))
    assert first.used() == second.used() == [3]


def test_memory_of_another_process_under_the_same_pid_does_not_count(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    (standin.world / "alloc" / "old").write_text(f"{os.getpid()} 0 500 0 1\n")
    assert open_reader(standin).used() == [3]


# -- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (nvml.DRIVER_NOT_LOADED, "Driver Not Loaded"),
        (nvml.VERSION_MISMATCH, "RM has detected an NVML/RM version mismatch"),
        (nvml.TIMEOUT, "Timeout"),
        (nvml.UNKNOWN, "Unknown Error"),
        (12, "NVML Shared Library Not Found"),  # said by the library, so it is there
        (777, "777"),
    ],
)
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_fails_is_unreadable_until_it_works(
    tmp_path: Path, open_reader: Open, code: int, words: str, function: str
) -> None:
    standin = Standin(tmp_path, cards(1))
    standin.fail(code, function)
    reader = open_reader(standin)
    for _ in range(2):
        assert words in reason(reader.read())
    standin.heal()
    assert reader.used() == [3]


@pytest.mark.parametrize("code", [nvml.DRIVER_NOT_LOADED, nvml.TIMEOUT, nvml.UNKNOWN, nvml.GPU_IS_LOST, 1])
def test_a_driver_that_fails_later_is_unreadable_until_it_works(tmp_path: Path, open_reader: Open, code: int) -> None:
    standin = Standin(tmp_path, cards(2))
    reader = open_reader(standin)
    assert reader.used() == [3, 3]
    standin.fail(code)
    for _ in range(2):
        assert reason(reader.read())
    standin.heal()
    assert reader.used() == [3, 3]


def test_after_a_fault_nvml_is_started_anew(tmp_path: Path, open_reader: Open) -> None:
    """Seen by a card that has come meanwhile: the list of cards is read only at a start."""
    standin = Standin(tmp_path, cards(1))
    reader = open_reader(standin)
    assert reader.used() == [3]
    standin.set_cards(cards(2))
    assert reader.used() == [3]
    standin.fail(nvml.TIMEOUT, "nvmlDeviceGetMemoryInfo")
    assert "Timeout" in reason(reader.read())
    standin.heal()
    assert reader.used() == [3, 3]


@pytest.mark.parametrize("code", [nvml.GPU_IS_LOST, nvml.UNKNOWN, 16])
def test_a_lost_card_is_sick_and_the_others_are_read(tmp_path: Path, open_reader: Open, code: int) -> None:
    standin = Standin(tmp_path, cards(3))
    reader = open_reader(standin, relook=0)
    assert len(reader.cards().cards) == 3
    standin.fail(code, card=1)
    for _ in range(3):
        found = reader.cards()
        assert [card.index for card in found.cards] == [0, 2]
        (sick,) = found.sick
        assert (sick.index, sick.uuid, sick.name) == (1, cards(3)[1].uuid, "NVIDIA Stand-in")
        assert sick.reason.startswith("it does not answer: ")
    standin.heal()
    assert reader.used() == [3, 3, 3]


def test_a_card_that_was_lost_before_is_found_when_it_comes_back(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(2))
    standin.fail(nvml.GPU_IS_LOST, card=0)
    reader = open_reader(standin)
    assert reader.cards().sick == (SickCard(0, "", "", "it does not answer: GPU is lost"),)
    standin.heal()
    assert reader.used() == [3, 3]


def test_while_a_card_is_sick_nvml_is_started_anew_now_and_then(tmp_path: Path, open_reader: Open) -> None:
    """A card that was reset may need it. Seen by a card that has come meanwhile."""
    standin = Standin(tmp_path, cards(2))
    now_and_then, seldom = open_reader(standin, relook=0), open_reader(standin, relook=3600)
    standin.fail(nvml.GPU_IS_LOST, "nvmlDeviceGetMemoryInfo", card=0)
    assert now_and_then.used() == seldom.used() == [3]
    standin.set_cards(cards(3))
    assert now_and_then.used() == [3, 3]
    assert seldom.used() == [3]


def test_a_card_that_does_not_tell_its_memory_is_sick(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(2))
    standin.fail(nvml.NOT_SUPPORTED, "nvmlDeviceGetMemoryInfo", card=0)
    found = open_reader(standin).cards()
    assert [card.index for card in found.cards] == [1]
    assert [(sick.index, "does not report its memory" in sick.reason) for sick in found.sick] == [(0, True)]


def test_a_card_of_no_memory_is_sick(tmp_path: Path, open_reader: Open) -> None:
    found = open_reader(Standin(tmp_path, [StandinCard("GPU-a", total_mib=0, base_mib=0)])).cards()
    assert not found.cards
    assert "does not report its memory" in found.sick[0].reason


def test_a_card_with_uncorrected_memory_errors_is_sick(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(2))
    standin.ecc({1: 12})
    reader = open_reader(standin, relook=0)
    found = reader.cards()
    assert [card.index for card in found.cards] == [0]
    assert (found.sick[0].index, "12 uncorrected memory errors" in found.sick[0].reason) == (1, True)
    standin.heal()
    assert reader.used() == [3, 3]
    standin.ecc({0: 1})
    assert [sick.index for sick in reader.cards().sick] == [0]


@pytest.mark.parametrize("code", [nvml.NOT_SUPPORTED, nvml.FUNCTION_NOT_FOUND, nvml.NO_PERMISSION])
def test_a_card_that_counts_no_errors_is_well(tmp_path: Path, open_reader: Open, code: int) -> None:
    standin = Standin(tmp_path, cards(1))
    standin.fail(code, "nvmlDeviceGetTotalEccErrors")
    assert open_reader(standin, relook=0).used() == [3]


def test_error_counters_are_looked_at_seldom(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    reader = open_reader(standin, relook=3600)
    assert reader.used() == [3]
    standin.ecc({0: 1})
    assert reader.used() == [3]


def test_a_card_that_this_user_may_not_use_does_not_exist(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(2))
    standin.fail(nvml.NO_PERMISSION, "nvmlDeviceGetHandleByIndex", card=0)
    found = open_reader(standin).cards()
    assert [card.index for card in found.cards] == [1]
    assert (found.sick, found.note) == ((), "this user may not use GPU 0")


def test_a_call_that_hangs_does_not_hang_the_manager(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    reader = open_reader(standin, limit=0.3)
    wait_for(lambda: reader.raw()["cards"] is not None)  # to load the library may take that long
    threads = reader.raw()["threads"]
    standin.hang(600_000)
    first = reader.raw()
    assert first["reason"] == "NVML did not answer within 0.3 s"
    for _ in range(3):
        again = reader.raw()
        assert again["reason"].startswith("NVML has not answered for")
        assert again["took"] < 0.3, "while a call hangs, nobody waits for it again"
        assert again["threads"] == threads
    standin.heal()
    wait_for(lambda: reader.raw()["cards"] is not None)
    assert reader.raw()["threads"] == threads


def test_a_reading_that_came_late_is_not_given_out(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    reader = open_reader(standin, limit=0.3)
    wait_for(lambda: reader.raw()["cards"] is not None)  # to load the library may take that long
    assert reader.used() == [3]
    standin.hang(600_000)
    assert reason(reader.read())
    seen: list[int] = []
    with standin.busy(0, 1000):
        standin.heal()  # the hung call comes back with the 3 MiB of before

        def answers() -> bool:
            found = reader.read()
            if isinstance(found, Cards):
                seen.append(found.cards[0].used_mib)
            return bool(seen)

        wait_for(answers)
    assert seen == [1003]


# -- the library -----------------------------------------------------------------------------------------------------


def test_without_nvidias_library_there_are_no_cards_for_certain(tmp_path: Path, open_reader: Open) -> None:
    none = Cards((), (), "no NVIDIA driver here (libnvidia-ml.so.1 not found)")
    reader = open_reader(Standin(tmp_path, cards(1)), {"LD_LIBRARY_PATH": str(tmp_path)})
    for _ in range(2):
        # Without the stand-in the machine's own library is what is found, or missing.
        assert (reader.read() == none) is not os.path.exists("/dev/nvidia0")


def test_a_library_that_cannot_be_loaded_is_unreadable(tmp_path: Path, open_reader: Open) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"cut short by a broken upgrade")
    reader = open_reader(Standin(tmp_path, cards(1)), {"LD_LIBRARY_PATH": str(tmp_path)})
    assert reason(reader.read()).startswith("NVIDIA's library cannot be loaded: ")


def test_a_library_that_comes_later_is_found(tmp_path: Path, open_reader: Open) -> None:
    directory = tmp_path / "lib"
    directory.mkdir()
    (directory / "libnvidia-ml.so.1").write_bytes(b"")
    reader = open_reader(Standin(tmp_path, cards(1)), {"LD_LIBRARY_PATH": str(directory)})
    assert reason(reader.read())
    (directory / "new").symlink_to(nvml.built() / "libnvidia-ml.so.1")
    (directory / "new").replace(directory / "libnvidia-ml.so.1")
    assert reader.used() == [3]


def test_devices_without_a_library_are_not_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was given cards, but of the driver's files only those for computing."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(glob, "iglob", lambda _pattern: iter(["/dev/nvidia0"]))
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in reason(gpus.without_library())
    monkeypatch.setattr(glob, "iglob", lambda _pattern: iter([]))
    assert isinstance(gpus.without_library(), Cards)


def test_a_library_that_misses_another_is_not_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise OSError("libother.so.2: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", broken)
    assert "libother.so.2" in reason(gpus.without_library())


def test_no_room_for_a_thread_is_unreadable_until_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reader = gpus.Nvml({})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        assert reason(reader.read()) == "NVML could not be asked: can't start new thread"
    assert "asked" not in str(reader.read())


def test_nonsense_from_the_driver_is_unreadable_until_it_has_gone(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(1))
    (standin.world / "cards").write_bytes(b"GPU-\xff|GPU|100|3|0|0\n")
    reader = open_reader(standin)
    assert reason(reader.read()).startswith("NVML returned invalid data: UnicodeDecodeError")
    standin.set_cards(cards(1))
    assert reader.used() == [3]


# -- CUDA_VISIBLE_DEVICES --------------------------------------------------------------------------------------------


def test_only_the_cards_that_the_environment_shows_exist(tmp_path: Path, open_reader: Open) -> None:
    reader = open_reader(Standin(tmp_path, cards(3)), {"CUDA_VISIBLE_DEVICES": "2,0"})
    found = reader.cards()
    assert [card.index for card in found.cards] == [0, 2]
    assert found.note == "CUDA_VISIBLE_DEVICES=2,0 hides GPU 1"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_visible(path: Path) -> None:
    case = json.loads(path.read_text())
    found = Cards(tuple(Card(index, uuid, "c", 100, 1) for index, uuid in enumerate(case["uuids"])))
    shown = visible(found, case["value"])
    assert ([card.index for card in shown.cards], shown.note) == (case["shown"], case["note"])


def test_a_sick_card_counts_as_listed_and_may_be_hidden() -> None:
    found = Cards((Card(1, "GPU-b", "c", 100, 1),), (SickCard(0, "GPU-a", "c", "lost"),), "said before")
    assert visible(found, "0,1") == found
    assert visible(found, "1") == Cards(found.cards, (), "said before; CUDA_VISIBLE_DEVICES=1 hides GPU 0")


SLICE = "MIG-aaaa"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", [100, 101]),
        ("MIG-aaaa", [100]),
        ("101,1", [1, 101]),
        ("1", [1]),
        ("MIG-", []),
        ("0,100", []),
        ("GPU-b", [1]),
    ],
)
def test_slices_are_shown_by_their_own_names_or_by_their_card(value: str, shown: list[int]) -> None:
    parts = [Card(100, SLICE, "c", 50, 1), Card(101, "MIG-bbbb", "c", 50, 1)]
    found = Cards((Card(1, "GPU-b", "c", 100, 1), *parts))
    assert sorted(card.index for card in visible(found, value).cards) == shown


def test_where_there_are_no_cards_nothing_is_hidden() -> None:
    none = Cards((), (), "no NVIDIA driver here")
    assert visible(none, "0") == none


@given(st.none() | st.text(max_size=30) | st.lists(st.sampled_from(["0", "1", "2", "-1", "GPU-", "GPU-1", "x"])))
def test_visible_never_invents_a_card_and_says_what_it_hides(value: str | list[str] | None) -> None:
    text = ",".join(value) if isinstance(value, list) else value
    found = Cards(tuple(Card(index, f"GPU-{index}", "c", 100, 1) for index in range(3)))
    shown = visible(found, text)
    assert set(shown.cards) <= set(found.cards)
    assert bool(shown.note) == (len(shown.cards) < 3)
    if value is None:
        assert shown == found


def test_a_card_that_fails_to_tell_whether_it_is_divided_is_not_used_as_a_whole_one(
    tmp_path: Path, open_reader: Open
) -> None:
    standin = Standin(tmp_path, cards(2))
    standin.divide({0: [StandinCard("MIG-1"), StandinCard("MIG-2")]}, cards(2))
    reader = open_reader(standin, relook=0.0)
    for function in ("nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex"):
        standin.fail(UNKNOWN, function, 0)
        wait_for(lambda: [card.index for card in cards_of(reader.read())] == [1])
        found = reader.read()
        assert isinstance(found, Cards)
        assert [(sick.index, "Unknown Error" in sick.reason) for sick in found.sick] == [(0, True)]
        standin.heal()
        wait_for(lambda: [card.index for card in cards_of(reader.read())] == [100, 101, 1])


def test_an_error_counter_that_fails_is_named_and_the_card_goes_on(tmp_path: Path, open_reader: Open) -> None:
    standin = Standin(tmp_path, cards(2))
    standin.fail(UNKNOWN, "nvmlDeviceGetTotalEccErrors", 1)
    found = open_reader(standin, relook=0.0).read()
    assert isinstance(found, Cards)
    assert [card.index for card in found.cards] == [0, 1]
    assert found.note == "it is unknown whether GPU 1 has memory errors (ECC): Unknown Error"
    standin.heal()
    standin.fail(NOT_SUPPORTED, "nvmlDeviceGetTotalEccErrors", 1)  # it has none to tell of
    found = open_reader(standin, relook=0.0).read()
    assert isinstance(found, Cards)
    assert (len(found.cards), found.note) == (2, "")
