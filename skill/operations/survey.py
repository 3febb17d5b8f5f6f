"""Check all hosts at once before anything is written: what they are, and what a manifest would find there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import encode
from queue_manager.core.readings import Card
from queue_manager.core.times import epoch
from skill.common.errors import FailedError
from skill.hosts import bootstrap, rsync_route
from skill.hosts.bootstrap import Facts
from skill.hosts.connection import Host, Unreachable, each
from skill.operations.submission import Submission, question
from skill.planning import existing_outputs, preflight_schema
from skill.planning.assign_jobs import Offer
from skill.planning.existing_outputs import Found
from skill.planning.host_needs import Way
from skill.planning.host_preflight import Basics, Seen

PATIENCE = 180.0
"""Seconds for one host; the commands of preconditions may take long."""
_LOOK = 150.0


class Surveyed(NamedTuple):
    """A host as it was found. `document`: that of queue_manager.remote.preflight; None with the reason in `why`. `at`:
    when it arrived, `asked`: when it was requested, in epoch seconds by the local clock. `no_route`: why rsync does not
    reach it."""

    facts: Facts | Unreachable
    document: Mapping[str, Any] | None = None
    why: str = ""
    at: float = 0.0
    asked: float = 0.0
    no_route: str | None = None

    def existing(self) -> Found | None:
        """Outputs of the run that exist already, with times by the local clock; None where the host did not report
        them."""
        found = None if self.document is None else existing_outputs.read(self.document)
        if found is None or self.document is None:
            return None
        try:
            ahead = epoch(self.document["probe"]["time"]) - self.at
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        code = found.newest_code
        return found._replace(
            outputs={job: at - ahead for job, at in found.outputs.items()},
            newest_code=None if code is None else (code[0], code[1] - ahead),
        )

    def _ahead(self) -> float:
        """Seconds by which the host's clock is certainly ahead of ours; 0 where it may be in step, or is unknown."""
        try:
            read_at = None if self.document is None else epoch(self.document["probe"]["time"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return 0.0
        return 0.0 if read_at is None else max(0.0, read_at - self.at) + min(0.0, read_at - self.asked)

    def seen(self, name: str, *, pushed: bool, code_mib: int | None = None) -> Seen:
        """The same facts in the form that host_preflight takes. `code_mib`: size of what is pushed in MiB, None where
        unknown."""
        facts = self.facts
        if isinstance(facts, Unreachable):
            return Seen(name, facts.reason)
        python = facts.python
        basics = Basics(
            None if python is None else f"{python.version} {python.path}",
            facts.why_no_python,
            facts.screen is not None,
            facts.disk_free_mib,
            None if facts.writable else "its home directory, where runs are kept, is not writable",
            facts.disk_fault,
        )
        way = Way(
            pushed, code_mib, shutil.which("rsync") is not None, facts.rsync is not None, self._ahead(), self.no_route
        )
        return Seen(name, None, basics, self.document, self.why, way)

    def twin(self, others: Mapping[str, Surveyed]) -> str | None:
        """The name of the host that is the same machine as this one, by their identities."""
        if isinstance(self.facts, Unreachable) or self.facts.host_id is None:
            return None
        for name, other in others.items():
            facts = other.facts
            if other is not self and not isinstance(facts, Unreachable) and _same(facts, self.facts):
                return name
        return None

    def offer(self, name: str, speed: float) -> Offer:
        """What the host can run. A failing GPU counts, since it may recover; its memory is unknown."""
        probe: Mapping[str, Any] = self.document["probe"] if self.document is not None else {"gpus": [], "cpus": 1}
        cards = tuple(
            Card(row["index"], row["uuid"], row["name"], row["total_mib"] or 1 << 40, row["used_mib"] or 0)
            for row in probe["gpus"]
        )
        return Offer(name, cards, probe["cpus"], speed)


def _same(one: Facts, other: Facts) -> bool:
    """Return whether two hosts are one machine. A home without an identity yet may belong to several."""
    return one.host_id == other.host_id and (one.named or one.machine_digest == other.machine_digest)


def survey_hosts(
    submission: Submission, hosts: Sequence[Host], *, newest_code: bool = False, routes: bool = False
) -> dict[str, Surveyed]:
    """Check all hosts at once. An unreachable one delays no other. `newest_code`: also find when the code there changed
    last; `routes`: also whether rsync can reach it, and with Slurm whether a task can begin there."""

    def look(host: Host) -> Surveyed:
        one = _survey(submission, host, newest_code=newest_code, tries_task=routes)
        if not routes or not submission.pushed or isinstance(one.facts, Unreachable) or one.facts.rsync is None:
            return one
        return one._replace(no_route=rsync_route.fault(host))

    found = each(hosts, look, PATIENCE)
    return {name: Surveyed(one) if isinstance(one, Unreachable) else one for name, one in found.items()}


def _survey(submission: Submission, host: Host, *, newest_code: bool, tries_task: bool) -> Surveyed:
    facts = bootstrap.facts(host, None)
    if isinstance(facts, Unreachable) or facts.python is None:
        return Surveyed(facts)
    asked = encode(question(submission.manifest, submission.part(host.worker, ()))).encode()
    try:
        bundle = bootstrap.bundle_for(facts)
    except FailedError as error:
        return Surveyed(facts, None, str(error))
    options = ["--newest-code"] if newest_code else []
    if tries_task and submission.manifest.launcher == SLURM:
        options += ["--try-task", "-"]
    begin = time.time()
    result = bootstrap.in_passing(host, facts, bundle, "preflight", *options, stdin=asked, timeout=_LOOK)
    if isinstance(result, Unreachable):
        return Surveyed(result)
    document = preflight_schema.read(result.out)
    if document is None:
        return Surveyed(facts, None, f"it could not be checked: {result.why}")
    return Surveyed(facts, document, at=time.time(), asked=begin)
