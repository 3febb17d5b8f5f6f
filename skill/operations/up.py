"""Run a spec on a rented machine from start to end: choose an offer, rent, set up, submit, pull, destroy.

Nothing that is needed again is kept in memory: the ledger, the run's directory and Vast.ai say how far it got, so the
same command continues after a kill at any moment. Until a manager was started on the machine, there is nothing of value
on it, and any failure destroys it. From then on the manager ends the machine itself, even if this process is gone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import Manifest, encode, sha256
from queue_manager.core.times import epoch
from skill.common.errors import FailedError, UseError
from skill.common.units import usd
from skill.fleet import confirm, follow_rental, ledger, ledger_file, ownership, rent
from skill.fleet.drift import GONE, STATUS
from skill.fleet.follow_rental import RentalStatus, Took
from skill.fleet.ledger import Rental
from skill.fleet.offers import Priced
from skill.fleet.profiles import Profile
from skill.hosts import registry
from skill.hosts.code_push import Report, no_report
from skill.hosts.connection import Host
from skill.hosts.registry import Worker
from skill.operations import submission, submit
from skill.operations.build_spec import Given
from skill.operations.submission import Submission
from skill.providers.instances import STOPPED, Instance
from skill.providers.outcomes import Gone, Unknown
from skill.providers.ownership import Claim, NotOurs, decide
from skill.providers.provider import Provider
from skill.runs import assignment, directory, pulled_states
from skill.runs.assignment import PLANNED
from skill.runs.directory import Run
from skill.runs.open import on_hosts
from skill.transfer import completeness

_LEAST = 1.0
"""$ below which no cost limit is set, unless the user gives one."""
_LIMIT_FACTOR = 2.0
"""The cost limit as a multiple of the estimated cost, unless the user gives one."""
_OFTEN, _SHARE = 2.0, 0.15
"""Seconds between pulls at first, and the share of the elapsed time by which they grow."""
Say = Callable[[str], None]


def purpose(manifest: Manifest) -> str:
    """Return the ledger's name for what is rented for a spec: the same for the same manifest."""
    return f"{ledger.UP}{manifest.project}-{sha256(encode(manifest).encode())[:12]}"


def cost_limit(manifest: Manifest, asked: float | None, estimated: float) -> float:
    """Return the cost limit in $: as given, as in the spec, or twice the estimate."""
    if asked is not None:
        return asked
    if manifest.max_cost is not None:
        return manifest.max_cost
    return max(_LEAST, math.ceil(_LIMIT_FACTOR * estimated * 100) / 100)


def bounded(manifest: Manifest, max_cost: float) -> Manifest:
    """Return the manifest as it is submitted: its manager ends the machine and keeps to the cost limit."""
    when_done = "destroy" if manifest.when_done == "keep" else manifest.when_done
    return manifest._replace(when_done=when_done, max_cost=max_cost)


class Agreed(NamedTuple):
    """What the user agreed to: offers, the first of which that starts is rented, and the cost limit in $."""

    candidates: tuple[Priced, ...]
    max_cost: float


class Ended(NamedTuple):
    """The end of a rental. `completed`: all jobs completed; else some need a person. `notes`: lines for the user."""

    run: Run
    rental: Rental
    completed: bool
    notes: tuple[str, ...]


class Steps(NamedTuple):
    """The steps that `Up` delegates: asking for agreement, setting up the host before anything is submitted, creating
    the run, and one pull of it within so many seconds. `report` gets how much of the code the host has got."""

    agree: Callable[[], Agreed]
    setup: Callable[[Host], None]
    begin: Callable[[Submission, Host], Run]
    refreshed: Callable[[Worker], Worker]
    pull: Callable[[Run, float], Took]
    report: Report = no_report


class Up:
    """The way of one spec. `profile`: for the choice of offers; `name`: what the run is called, None: its project;
    `poll`: seconds between checks of the GPUs; `every`: most seconds between pulls."""

    def __init__(
        self,
        client: Provider,
        where: Path,
        spec: Given,
        manifest: Manifest,
        profile: Profile,
        steps: Steps,
        say: Say,
        *,
        name: str | None = None,
        max_cost: float | None,
        poll: float | None,
        every: float,
        new: bool,
    ) -> None:
        self._client, self._where, self._spec, self._manifest = client, where, spec, manifest
        self._profile, self._steps, self._say = profile, steps, say
        self._name = name
        self._max_cost, self._poll, self._every, self._new = max_cost, poll, every, new
        self.purpose = purpose(manifest)

    def go(self) -> Ended:
        """Do all that is left to do. Raises FailedError and UseError."""
        rental = self._rental()
        if self._new and rental is not None:
            if rental.ended is None:
                raise UseError(f"{self._spec} is already running on {rental.worker}; to continue it, leave out --new")
            rental = None
        if rental is not None and rental.ended is not None:
            over = self._over(rental)
            if over is not None:
                return over
            rental = None
        worker = self._rented(rental)
        found = ledger_file.by_instance(self._where)[worker.instance_id or 0]
        self._check_limit(found)
        run = self._submitted(found, worker)
        return self._end(found, run, self._followed(found, run))

    # -- renting ------------------------------------------------------------------------------------------------------

    def _rental(self) -> Rental | None:
        """Return the last machine that started for this spec, or is starting."""
        mine = [one for one in ledger_file.rentals(self._where).values() if one.purpose == self.purpose]
        useful = [one for one in mine if one.ready or one.ended is None]
        return useful[-1] if useful else None

    def _rented(self, rental: Rental | None) -> Worker:
        """Return the machine as a worker; rent one if there is none."""
        if rental is not None and not rental.unfinished:
            return self._there(rental)
        request = rent.RentRequest(self._profile, self.purpose, once=True)
        if rental is not None:
            worker = rent.finish(self._client, self._where, request, self._say)
            if worker is not None:
                return worker
        agreed = self._steps.agree()
        request = request._replace(notes={"max_cost": agreed.max_cost})
        return rent.rent(self._client, self._where, request, agreed.candidates, self._say)

    def _there(self, rental: Rental) -> Worker:
        """Return a machine that was rented before, with its current address."""
        known = registry.Registry.load(self._where).workers.get(rental.worker)
        if known is None or known.instance_id != rental.instance_id:
            raise UseError(
                f"instance {rental.instance_id} was rented for {self._spec}, but is not in workers.yaml now; to delete "
                f"it: wavequeue vast destroy {rental.instance_id}"
            )
        self._say(f"continuing with instance {rental.instance_id} ({rental.worker})")
        return known

    def _check_limit(self, rental: Rental) -> None:
        agreed = rental.notes.get("max_cost")
        if self._max_cost is not None and agreed != self._max_cost:
            raise UseError(
                f"{self._spec} is already running with --max-cost {agreed:g}, which cannot change; leave out --max-cost"
            )

    # -- submitting ---------------------------------------------------------------------------------------------------

    def _submission(self, rental: Rental) -> Submission:
        return submission.prepare(bounded(self._manifest, float(rental.notes["max_cost"])), self._spec)

    def _run(self, rental: Rental) -> Run | None:
        """Return the run that was created for a machine."""
        made = self._submission(rental)
        for run in directory.in_folder(made.beside / LOCAL_RUNS):
            found = assignment.read(run) if on_hosts(run) else None
            if found is None or found.digest != made.digest or epoch(found.created) < rental.intended:
                continue
            if any(part.host == rental.worker for part in found.parts):
                return run
        return None

    def _submitted(self, rental: Rental, worker: Worker) -> Run:
        """Return the run with a manager that runs. A failure before that destroys the machine."""
        run = self._run(rental)
        if run is not None and self._name not in (None, directory.title(run.id)):
            raise UseError(f"{self._spec} is already running as {run.id}; leave out --name to continue it")
        if run is not None and self._has_begun(run, worker.name):
            return run
        try:
            return self._submit(rental, self._steps.refreshed(worker), run)
        except (FailedError, UseError, OSError) as error:
            run = self._run(rental)
            if run is not None and self._has_begun(run, worker.name):
                raise
            self._say("nothing was submitted, and the machine was destroyed")
            words = "was destroyed" if self._destroy(rental) else "no longer exists"
            raise FailedError(f"{error}\nInstance {rental.instance_id} {words} and is no longer billed") from None

    def _submit(self, rental: Rental, worker: Worker, run: Run | None) -> Run:
        made = self._submission(rental)
        host = registry.connect(worker, self._where, submit.TRIES)
        try:
            if run is None:
                self._steps.setup(host)
                run = self._steps.begin(made, host)
            directory.note_submitted(run, Path.home())
            (outcome,) = submit.finish(
                run, made, [host], push=True, poll=self._poll, say=self._say, report=self._steps.report
            )
        finally:
            host.close()
        if outcome.fault is not None:
            raise FailedError(f"{outcome.host}: {outcome.fault}")
        self._say(f"{run.id}: {outcome.jobs} jobs on {outcome.host}")
        return run

    @staticmethod
    def _has_begun(run: Run, host: str) -> bool:
        found = assignment.read(run)
        return found is not None and found.part(host).state != PLANNED

    # -- following ----------------------------------------------------------------------------------------------------

    def _followed(self, rental: Rental, run: Run) -> Took | None:
        """Pull until all results are here. Returns the last pull, None where the machine ended before.

        Raises FailedError where no result came until the cost limit was reached, and the machine was destroyed.
        """
        first = whole = time.monotonic()
        warned = -math.inf
        fault: str | None = None
        while True:
            begin = time.monotonic()
            took = self._steps.pull(run, follow_rental.patience(self._status(rental, begin - whole, fault)))
            if took.is_last:
                return took
            now, fault = time.monotonic(), took.fault
            if fault is None:
                whole = now
            live = self._client.instance(rental.instance_id or 0) if fault is not None else None
            if live is not None and (isinstance(live, Gone) or (isinstance(live, Instance) and live.status == STOPPED)):
                return None
            status = self._status(rental, now - whole, fault)
            why = follow_rental.give_up(status)
            if why is not None and not isinstance(live, Unknown):
                self._give_up(rental, run, why)
            text = follow_rental.warning(status)
            if text is not None and now - warned >= follow_rental.AGAIN:
                warned = now
                self._say(
                    f"instance {rental.instance_id}: {text}. To end it now: wavequeue vast destroy {rental.worker}"
                )
            # A short run must not wait for a pull, so pulls are more frequent at first.
            now = time.monotonic()
            pause = min(self._every, max(_OFTEN, _SHARE * (now - first)))
            time.sleep(max(0.0, pause - (now - begin)))

    def _status(self, rental: Rental, quiet: float, fault: str | None) -> RentalStatus:
        now = ledger_file.rentals(self._where)[rental.label]
        cost, cost_limit = ledger.cost(now, time.time()), float(rental.notes["max_cost"])
        return RentalStatus(cost, cost_limit, rental.offered.dph, quiet, fault)

    def _give_up(self, rental: Rental, run: Run, why: str) -> NoReturn:
        """Destroy a machine at its cost limit, whatever is on it. Raises FailedError, with its cost."""
        words = "was destroyed" if self._destroy(rental) else "no longer exists"
        cost = usd(ledger.cost(ledger_file.rentals(self._where)[rental.label], time.time()))
        lost = completeness.missing_of(run, rental.worker)
        rest = "all results are here" if lost is None else f"not all is here: {lost}"
        raise FailedError(
            f"instance {rental.instance_id} {words} and is no longer billed: {why}. The machine cost {cost}, at most "
            f"and without traffic; {rest}. To run what is left elsewhere: wavequeue rescue {run.id} --from "
            f"{rental.worker}; to run everything again: add --new"
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self, rental: Rental, run: Run, last: Took | None) -> Ended:
        """End the machine as the spec says, or as is necessary. `last`: the pull after which all results were here."""
        all_pulled = last is not None
        number, name = rental.instance_id or 0, rental.worker
        live = self._client.instance(number)
        if isinstance(live, Gone):
            self._write_gone(rental, ledger.GONE)
            if all_pulled:
                return self._ended(rental, run, f"instance {number} has destroyed itself and is no longer billed")
            raise FailedError(self._lost(rental, run))
        if not all_pulled:
            self._write_stopped(rental)
            raise FailedError(
                f"instance {number} was stopped before all results were pulled: {_why_stopped(run, name)}. Its disk is "
                f"still billed. To fetch what is on it: wavequeue vast start {name}, then the same command again; to "
                f"give it up: wavequeue vast destroy {name} --force"
            )
        worker = registry.Registry.load(self._where).workers.get(name)
        missing = ownership.at_risk(self._where, worker) if worker is not None else []
        if missing:
            raise FailedError(f"{'; '.join(missing)}. Instance {number} is still billed; see: wavequeue vast instances")
        refused = 0 if last is None else last.refused
        if refused:
            self._say(f"{refused} files were not pulled and may be needed: the machine is stopped, not destroyed")
        if refused or not self._completed(run) or bounded(self._manifest, 0.0).when_done == "stop":
            fault = self._stop(rental, live)
            if fault is not None:
                raise FailedError(f"instance {number} was not confirmed as stopped; it may still be billed: {fault}")
            self._write_stopped(rental)
            return self._ended(
                rental,
                run,
                f"instance {number} is stopped; its disk is still billed. To continue with it: wavequeue vast start "
                f"{name}; to delete it: wavequeue vast destroy {name}",
            )
        words = "was destroyed" if self._destroy(rental) else "no longer exists"
        return self._ended(rental, run, f"instance {number} {words} and is no longer billed")

    def _over(self, rental: Rental) -> Ended | None:
        """Return how an earlier call ended; None where nothing ever ran on that machine. Raises FailedError where it
        was lost."""
        run = self._run(rental)
        if run is None or not self._has_begun(run, rental.worker):
            return None
        if completeness.missing_of(run, rental.worker) is not None:
            raise FailedError(self._lost(rental, run))
        return self._ended(rental, run, "this was already done; to run it again: add --new")

    def _ended(self, rental: Rental, run: Run, words: str) -> Ended:
        now = ledger_file.rentals(self._where)[rental.label]
        cost = f"the machine cost {usd(ledger.cost(now, time.time()))}, at most and without traffic"
        return Ended(run, now, self._completed(run), (words, cost))

    def _lost(self, rental: Rental, run: Run) -> str:
        why = completeness.missing_of(run, rental.worker) or "how it ended is unknown"
        return (
            f"instance {rental.instance_id} no longer exists, and not all is here: {why}. It is no longer billed. "
            f"To run what is left elsewhere: wavequeue rescue {run.id} --from {rental.worker}; or all of it again: add "
            "--new"
        )

    @staticmethod
    def _completed(run: Run) -> bool:
        found = assignment.read(run)
        assert found is not None
        rows = [row for state in pulled_states.documents(run, found).values() for row in state["jobs"]]
        return bool(rows) and all(row["status"] == "completed" for row in rows)

    def _stop(self, rental: Rental, live: Instance | Unknown) -> str | None:
        """Stop the machine. Returns None once that is confirmed, else why it is not."""
        if isinstance(live, Unknown):
            return live.reason
        verdict = decide(Claim(live.id, rental.label), live)
        return verdict.why if isinstance(verdict, NotOurs) else confirm.stop(self._client, verdict)

    def _destroy(self, rental: Rental) -> bool:
        """Destroy the machine. Returns False where it no longer existed. Raises FailedError."""
        number = rental.instance_id or 0
        ended = confirm.destroy_claimed(self._client, Claim(number, rental.label))
        if isinstance(ended, str):
            raise FailedError(
                f"instance {number} was not confirmed as deleted; it may still be billed: {ended}. Run the same "
                f"command again, or: wavequeue vast destroy {number}"
            )
        self._write_gone(rental, ledger.DESTROYED if ended.by_us else ledger.GONE)
        return ended.by_us

    def _write_gone(self, rental: Rental, event: str) -> None:
        if ledger_file.rentals(self._where)[rental.label].ended is None:
            ledger_file.note(self._where, event, rental.label)
        self._patch(rental, {"enabled": False, STATUS: GONE})

    def _write_stopped(self, rental: Rental) -> None:
        if not ledger_file.rentals(self._where)[rental.label].stopped:
            ledger_file.note(self._where, ledger.STOPPED, rental.label)
        self._patch(rental, {STATUS: "stopped"})

    def _patch(self, rental: Rental, values: dict[str, object]) -> None:
        with registry.changed(self._where) as known:
            worker = known.workers.get(rental.worker)
            if worker is not None and worker.instance_id == rental.instance_id:
                known.patch(rental.worker, values)


def _why_stopped(run: Run, host: str) -> str:
    """Return who stopped it, where that is known: its manager, if it had begun to and gave a reason."""
    found = assignment.read(run)
    state = pulled_states.documents(run, found).get(host) if found is not None else None
    row = state["meta"].get("teardown") if state is not None else None
    if row and (row["bound"] or row["plan"] in ("stop", "destroy")):
        return str(row["bound"] or row["reason"])
    return "not by its manager, as far as is known; a higher bid or an account without credit can cause this"
