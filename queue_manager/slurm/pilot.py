"""The pilot: runs in an allocation of Slurm, and packs attempts onto its GPUs by their memory.

It decides about no attempt, and keeps nothing that anybody else needs: the manager offers attempts to all pilots of a
pool (see `orders`), each attempt is run by the same script as in a task of its own, and whoever has its claim runs it.
It ends when it has had nothing to do for a while. What it runs ends with it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from queue_manager.adapters import processes
from queue_manager.adapters.claims import read_text
from queue_manager.adapters.files import write_text, write_whole
from queue_manager.adapters.gpus import Nvml
from queue_manager.adapters.processes import TagScan
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import Settling
from queue_manager.core.placement import SETTLE_SECONDS
from queue_manager.core.readings import Card, Cards, Unreadable, cuda_name
from queue_manager.slurm import packing
from queue_manager.slurm.orders import Gone, Orders, Seen
from queue_manager.slurm.packing import Held, Offer, Start

LINGER = 60.0
"""Seconds for which a pilot without an attempt waits for one: a retry, or a job whose teacher has just ended."""
BLOCKED = 600.0
"""Seconds after which a pilot gives up that could start nothing: its GPUs are in use by others, or do not answer."""
AT_ONCE = 60.0
"""An attempt that began so many seconds after its pilot had all of the allocation's time."""
LATE = 60.0
"""Seconds before the end of the allocation's time from which on an end from outside is meant to be by that."""
RELEASE = 5.0
"""Seconds for the memory of an attempt to be released once none of its processes is left, at most."""
SETTLES = 30.0
"""Seconds between TERM and KILL for an attempt that took longer than it may, while no manager was there to end it."""


def main() -> None:
    """Run one pilot. Exits with 0 once there is nothing to do, with 1 where it could do nothing."""
    parser = argparse.ArgumentParser(prog="queue_manager.slurm.pilot")
    for name in ("--run", "--logs", "--pool"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--poll", type=float, required=True)
    options = parser.parse_args()
    paths = RunPaths.of(options.run)._replace(log_dir=options.logs)
    sys.exit(Pilot(paths, Orders(options.pool), Path.cwd(), options.key, options.poll, os.environ).serve())


class _Running:
    """An attempt whose script this pilot has started."""

    def __init__(self, offer: Offer, card: Card, base_mib: int, process: subprocess.Popen[bytes], began: float) -> None:
        self.offer, self.card, self.process, self.began = offer, card, process, began
        self.held = Held(offer.mib, (card.uuid,), (base_mib,))
        self.signalled: set[str] = set()


class Pilot:
    """One allocation. `batch`: the directory of its batch; `key`: of the run, see layout.run_key; `poll` in seconds."""

    def __init__(
        self, paths: RunPaths, orders: Orders, batch: Path, key: str, poll: float, environment: Mapping[str, str]
    ) -> None:
        self._paths, self._orders, self._batch, self._poll = paths, orders, batch, poll
        self._environment, self._nvml, self._scan = environment, Nvml(environment), TagScan(key)
        self._began = time.monotonic()
        left = time_left(environment)
        self._until = None if left is None else self._began + left
        self._running: dict[str, _Running] = {}
        self._offers: dict[str, Offer] = {}
        self._done: set[str] = set()
        self._settling: dict[str, Settling] = {}
        self._used: dict[str, int] = {}
        """Most MiB read of each GPU (uuid) since an attempt ended on it."""
        self._heard: list[int] = []
        self._longest = 0.0
        self._is_ending = False
        self._idle_since = self._began
        self._said = ""
        self._bell, self._ringer = os.pipe()
        for end in (self._bell, self._ringer):
            os.set_blocking(end, False)

    def serve(self) -> int:
        """Work until there is nothing to do, or the allocation ends. Returns 1 where it could do nothing."""
        signal.set_wakeup_fd(self._ringer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._hear)
        while True:
            code = self._turn(time.monotonic())
            if code is not None:
                return code
            select.select([self._bell], [], [], self._poll)
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._is_ending = True
        self._heard.append(number)

    def _turn(self, now: float) -> int | None:
        """One look at everything. Returns the exit code, None to go on."""
        self._hand_on(now)
        for name, one in list(self._running.items()):
            if one.process.poll() is not None:
                self._ended(name, one, now)
        look = self._orders.look()
        if isinstance(look, Seen):
            self._carry_out(look)
            self._note(look)
        self._keep_limits(now)
        read = self._nvml.read() if self._running or self._offers else None
        if isinstance(read, Cards):
            self._used.update((card.uuid, max(card.used_mib, self._used.get(card.uuid, 0))) for card in read.cards)
        fits = packing.fits_in_time(self._left(now), self._longest)
        waits = bool(self._offers) and not self._is_ending and not self._is_paused()
        if waits and fits and isinstance(look, Seen):
            self._start(read, now)
        if self._running:
            self._idle_since = now
            return None
        is_over = isinstance(look, Seen) and look.end and not self._offers
        if is_over or self._is_ending or isinstance(look, Gone):
            return 0
        if waits and not fits:
            self._say("not enough of the allocation's time is left for another attempt")
            return 0
        if now - self._idle_since < (BLOCKED if waits else LINGER):
            return None
        return 1 if waits else 0

    def _hand_on(self, now: float) -> None:
        """Slurm ends the allocation (TERM), or says that it soon will (USR1): tell it to all that runs."""
        heard, self._heard = self._heard, []
        left = self._left(now)
        for number in dict.fromkeys(heard):
            for name, one in self._running.items():
                had_all = left is not None and left < LATE and one.began - self._began < AT_ONCE
                if number == signal.SIGTERM and had_all:
                    with contextlib.suppress(OSError):
                        write_text(self._paths.root / "attempts" / name / "limit", "")
                one.process.send_signal(number)

    def _left(self, now: float) -> float | None:
        return None if self._until is None else self._until - now

    def _is_paused(self) -> bool:
        return (self._paths.root / "slurm" / "paused").exists()

    def _say(self, text: str) -> None:
        """Into the file that Slurm keeps the pilot's output in, once."""
        if text != self._said:
            self._said = text
            print(text, flush=True)

    # -- attempts -----------------------------------------------------------------------------------------------

    def _note(self, look: Seen) -> None:
        """Take note of what is offered and has not been taken, as far as that is known."""
        self._done &= look.offered
        for name in self._offers.keys() - look.offered:
            del self._offers[name]
        for name in look.offered - self._done - self._running.keys() - self._offers.keys():
            offer = self._orders.read(name)
            if offer is not None:
                self._offers[name] = offer

    def _start(self, read: Cards | Unreadable | None, now: float) -> None:
        if not isinstance(read, Cards):
            self._say(f"waits: {'' if read is None else read.reason}")
            return
        running = [one.held for one in self._running.values()]
        settling, are_all = self._settling, not read.sick
        found: list[Start] = []
        is_stale = True
        while is_stale:
            found = packing.starts(self._offers.values(), running, settling, read.cards, are_all, time.time())
            is_stale = False
            for name in [start.offer.attempt for start in found]:
                if (self._paths.root / "attempts" / name / "claim").exists():
                    is_stale = True
                    self._done.add(name)
                    del self._offers[name]
        for offer, card, base_mib, fault in found:
            del self._offers[offer.attempt]
            if card is None:
                note = f" ({read.note})" if read.note else ""
                self._refuse(offer, f"{fault}{note}; ask for another by slurm: gres, constraint")
            else:
                process = self._run(offer, cuda_name(card.index, card.uuid))
                self._running[offer.attempt] = _Running(offer, card, base_mib, process, now)
                settling.pop(card.uuid, None)
        if not found and not running:
            self._say(f"waits for memory: {read.note or 'it is in use by others'}")

    def _run(self, offer: Offer, gpu: str, *more: str) -> subprocess.Popen[bytes]:
        """Start the script of an attempt. Its standard input is open for as long as this pilot lives."""
        script, name = self._batch / "attempt.sh", self._environment["SLURM_JOB_NAME"]
        return subprocess.Popen(
            ["bash", str(script), offer.attempt, offer.job, offer.tag, name, *more],
            env={**self._environment, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def _refuse(self, offer: Offer, why: str) -> None:
        """End an attempt that no GPU here can hold, with the reason as the last line of its log."""
        self._done.add(offer.attempt)
        self._run(offer, "", f"wavequeue: {why}").wait()

    def _ended(self, name: str, one: _Running, now: float) -> None:
        """Take note that the script of an attempt has ended; nothing of the attempt is left running."""
        del self._running[name]
        self._done.add(name)
        if one.process.stdin is not None:
            one.process.stdin.close()
        if not self._was_ours(name, one):
            return
        uuid = one.card.uuid
        self._longest = max(self._longest, now - one.began)
        self._kill_strays(one)
        since = time.time() - SETTLE_SECONDS + RELEASE
        self._settling[uuid] = Settling(since, self._used.pop(uuid, one.card.used_mib))
        record = self._paths.root / "attempts" / name / "exit"
        if not record.exists():  # somebody killed the script
            with contextlib.suppress(OSError):
                write_whole(record, [b"137\n"])
                write_text(self._paths.root / "slurm/ended" / name, "")

    def _was_ours(self, name: str, one: _Running) -> bool:
        """Whether this pilot's script had the claim: another pilot may have been first."""
        try:
            text, _ = read_text(self._paths.root / "attempts" / name / "claim")
        except OSError:
            return False
        words = text.split()
        me = (self._environment.get("SLURM_JOB_ID", ""), str(one.process.pid))
        return len(words) > 4 and (words[2], words[4]) == me

    # -- ends ---------------------------------------------------------------------------------------------------

    def _carry_out(self, look: Seen) -> None:
        for number, names in look.signals.items():
            for name in names & self._running.keys():
                self._tell(name, number)

    def _keep_limits(self, now: float) -> None:
        """End what takes longer than it may: the manager would have, if it lived."""
        for name, one in self._running.items():
            over = now - one.began - (one.offer.limit or 0.0)
            if one.offer.limit is not None and over >= 0:
                self._tell(name, "KILL" if over >= SETTLES else "TERM")

    def _tell(self, name: str, number: str) -> None:
        """Have the script of an attempt send its job a signal, once."""
        one = self._running[name]
        if number in one.signalled:
            return
        with contextlib.suppress(OSError):
            write_whole(self._paths.root / "attempts" / name / "stop", [f"{number}\n".encode()], durable=False)
            one.signalled.add(number)
            one.process.send_signal(signal.SIGUSR2)
        if number == "KILL":
            self._kill_strays(one)

    def _kill_strays(self, one: _Running) -> None:
        """Kill what is left of an attempt by its tag: it may hold memory of a GPU."""
        found = self._scan.tagged()
        if isinstance(found, dict):
            processes.send(found.get(one.offer.tag, []), signal.SIGKILL)


_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)\s*")


def time_left(environment: Mapping[str, str]) -> float | None:
    """Seconds until Slurm ends this allocation for its time limit; None if that is unknown, or there is none."""
    end = environment.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return float(end) - time.time()
    try:
        argv = ["squeue", "--noheader", "--format=%L", f"--jobs={environment.get('SLURM_JOB_ID', '')}"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_left(done.stdout)


def parse_left(text: str) -> float | None:
    """Return the seconds of a duration as squeue writes it, [[days-]hours:]minutes:seconds; None for other words."""
    found = _LEFT.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
