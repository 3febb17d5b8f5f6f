"""Repair a run whose journal or state is damaged or lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skill.hosts.connection import Unreachable
from skill.runs import repair
from skill.runs.directory import Run
from skill.runs.open import on_hosts

Answers = Mapping[str, "Mapping[str, Any] | str"]
"""What can be recovered, by host, see queue_manager.remote.repair; or why a host gave no answer. A run on this machine
has one entry, under the name runs.repair.HERE."""


def repair_run(run: Run, *, do: bool = False) -> Answers:
    """Find out what can be recovered of a run; with `do`, write its new journal. The damaged files are kept beside it.

    Raises FailedError for a run on this machine that could not be examined.
    """
    if not on_hosts(run):
        return {repair.HERE: repair.ask_here(run, do=do)}
    from skill.runs.remote import RemoteRun

    with RemoteRun.at(run) as there:

        def one(name: str) -> dict[str, Any] | str | Unreachable:
            return there.call(name, repair.request(do=do), repair.PATIENCE)

        answers = there.each(one, repair.PATIENCE)
    return {name: found.reason if isinstance(found, Unreachable) else found for name, found in answers.items()}


def hosts_to_repair(answers: Answers) -> list[str]:
    """Return the hosts that have something to repair."""
    return [name for name, found in answers.items() if not isinstance(found, str) and repair.is_needed(found)]


def hosts_without_answer(answers: Answers) -> list[str]:
    """Return the hosts that could not be examined."""
    return [name for name, found in answers.items() if isinstance(found, str)]
