"""`python -m skill.fleet.watcher WORKERS_YAML [--dry-run]`: look for cheap offers again and again, and
rent within the rules.

One for each project: whoever holds the lock is it. Its rules are read anew for each look. Unknown rents nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

from build_manifest import regular_file
from queue_manager.core.times import iso
from skill.common import typed_json
from skill.common.errors import FailedError, UseError
from skill.common.files import SHOWN, append_to, make_directory, try_lock, write_whole
from skill.common.project import ProjectPaths
from skill.fleet import ledger, ledger_file, offers, rent, settings, watch_rules
from skill.fleet.offers import Priced
from skill.fleet.provider import connected
from skill.fleet.watch_rules import Rules
from skill.providers.instances import Instance
from skill.providers.outcomes import Gone, Unknown
from skill.providers.provider import Provider

_MOST_STATE = 1 << 20

PURPOSE = "watcher"
_TRIES = 10
_LONGEST = 1 << 20
"""Bytes of the log; then it begins anew, and the one before is kept beside it."""


def identity(pid: int) -> tuple[int, str] | None:
    """When a process began, in clock ticks, and in which life of the machine; None where there is none.

    Together with its number nothing else ever has them.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[19]), boot)


def is_held(files: ProjectPaths) -> bool:
    """Whether a watcher runs."""
    try:
        with files.watcher_lock.open("rb") as file:
            return not try_lock(file)
    except FileNotFoundError:
        return False


def read_state(files: ProjectPaths) -> dict[str, Any]:
    """What a watcher reported about itself; empty if nothing."""
    try:
        found = typed_json.decode(regular_file.read(files.watcher_state, _MOST_STATE), _MOST_STATE)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main(arguments: list[str]) -> int:
    """Watch until SIGTERM. 0; 1 where another one does so already."""
    where, is_dry = Path(arguments[0]), "--dry-run" in arguments[1:]
    files = ProjectPaths.of(where)
    make_directory(files.watcher_lock.parent)
    with append_to(files.watcher_lock) as lock:
        if not _taken(lock):
            print("another watcher holds the lock", file=sys.stderr)
            return 1
        signal.signal(signal.SIGTERM, _leave)
        _Watcher(where, files, is_dry=is_dry).go()
    return 0


def _taken(lock: IO[bytes]) -> bool:
    """Take the lock, unless a watcher has it; whoever only looks has it for a moment as well."""
    for _ in range(_TRIES):
        if try_lock(lock):
            return True
        time.sleep(0.05)
    return False


class _Left(BaseException):
    """Somebody wants it to end."""


def _leave(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Left


class _Watcher:
    def __init__(self, where: Path, files: ProjectPaths, *, is_dry: bool) -> None:
        self._where, self._files, self._is_dry = where, files, is_dry
        self._last_said: dict[object, str] = {}
        mine = identity(os.getpid())
        assert mine is not None
        self._state: dict[str, Any] = {
            "pid": os.getpid(), "start": mine[0], "boot": mine[1], "since": iso(time.time()), "dry_run": is_dry,
            "looked": None, "outcome": None,
        }  # fmt: skip

    def go(self) -> None:
        with contextlib.suppress(_Left):
            self._write()
            self._say("watching" + (", and rents nothing (--dry-run)" if self._is_dry else ""))
            pause = Rules().every
            while True:
                with self._surviving():
                    rules, _ = settings.read_rules(self._where)
                    pause = rules.every
                    self._state["outcome"] = self._look(rules)
                self._state["looked"] = iso(time.time())
                self._write()
                time.sleep(pause)
        self._say("stopping on request")

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """Whatever goes wrong in a look is reported, and the next look comes."""
        try:
            yield
        except (UseError, FailedError, OSError) as error:
            self._outcome(str(error))
        except Exception as error:
            self._outcome(f"internal error: {error!r}")
            self._say(traceback.format_exc())

    def _outcome(self, words: str) -> str:
        self._state["outcome"] = words
        self._say_once("outcome", words)
        return words

    def _look(self, rules: Rules) -> str:
        """One look, and what came of it."""
        with connected() as client:
            if not self._is_dry:
                request = rent.RentRequest(
                    settings.profile(settings.read_profiles(self._where), rules.profile), PURPOSE
                )
                if rent.unfinished(self._where, PURPOSE):
                    rent.finish(client, self._where, request._replace(pool=rules.pool), self._say)
            return self._decide(client, rules)

    def _decide(self, client: Provider, rules: Rules) -> str:
        live = self._live(client)
        if isinstance(live, Unknown):
            return self._outcome(f"the instances of the account are unknown, so nothing is rented: {live.reason}")
        user = client.user()
        if isinstance(user, Unknown):
            return self._outcome(f"the balance is unknown, so nothing is rented: {user.reason}")
        profile = watch_rules.looked_at(rules, settings.profile(settings.read_profiles(self._where), rules.profile))
        work, banned = offers.plain_work(profile), {one.machine_id for one in settings.read_blacklist(self._where)}
        found = client.search(offers.need(profile, work, banned))
        if isinstance(found, Unknown):
            return self._outcome(f"the offers cannot be listed: {found.reason}")
        ranking = offers.rank(found.offers, profile, work, banned)
        choice = watch_rules.decide(rules, live, user.credit, ranking.priced)
        seen = {one.offer.id for one, _ in choice.near}
        for number in [key for key in self._last_said if isinstance(key, int) and key not in seen]:
            del self._last_said[number]
        for one, why in choice.near:
            self._say_once(one.offer.id, f"near miss: {watch_rules.line(one)}: {why}")
        if choice.held is not None:
            return self._outcome(f"nothing is rented: {choice.held}")
        if choice.take is None:
            return self._outcome(f"nothing is cheap enough: {len(found.offers)} offers, {len(choice.near)} near misses")
        return self._take(client, rules, choice.take)

    def _take(self, client: Provider, rules: Rules, one: Priced) -> str:
        if self._is_dry:
            return self._outcome(f"would rent {watch_rules.line(one)}")
        self._say(f"rents {watch_rules.line(one)}")
        profile = settings.profile(settings.read_profiles(self._where), rules.profile)
        worker = rent.rent(client, self._where, rent.RentRequest(profile, PURPOSE, pool=rules.pool), [one], self._say)
        return self._outcome(f"rented {worker.name}: instance {worker.instance_id}")

    def _live(self, client: Provider) -> list[Instance] | Unknown:
        """All instances of the account; those that we rented even if they are not listed (yet)."""
        listed = client.instances()
        if isinstance(listed, Unknown):
            return listed
        found = {one.id: one for one in listed}
        for number, rental in ledger_file.by_instance(self._where).items():
            if rental.ended is not None or number in found:
                continue
            shown = client.instance(number)
            if isinstance(shown, Unknown):
                return shown
            if isinstance(shown, Gone):
                if not self._is_dry:
                    ledger_file.note(self._where, ledger.GONE, rental.label)
            else:
                found[number] = shown
        return list(found.values())

    # -- what is written ------------------------------------------------------------------------------------------

    def _write(self) -> None:
        write_whole(self._files.watcher_state, json.dumps(self._state) + "\n", durable=False)

    def _say_once(self, key: object, words: str) -> None:
        """Report something unless it was the last report about this."""
        if self._last_said.get(key) != words:
            self._last_said[key] = words
            self._say(words)

    def _say(self, words: str) -> None:
        log = self._files.watcher_log
        with contextlib.suppress(OSError):
            if log.exists() and log.stat().st_size > _LONGEST:
                log.replace(log.with_name(f"{log.name}.1"))
            with append_to(log, SHOWN) as file:
                file.write(f"{(iso(time.time()) or '')[:19]}Z {words}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
