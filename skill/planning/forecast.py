"""Estimate how long a run takes and what it costs, by running the scheduler against simulated time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.durations import Durations, basis_words, unknown_words
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.simulate import Machine, Simulated, begun, simulate
from queue_manager.core.times import duration
from skill.common.units import jobs_text, usd
from skill.planning.assign_jobs import MIN_SPEED, Offer, Sharing
from skill.runs.assignment import Part, awaited, part_manifest


class Forecast(NamedTuple):
    """`seconds`: until the last host is done, None where that is not known; `hosts`: the same for each host. `cost`: in
    USD, None where it is not known or no host has a price. `basis`: what tells how long jobs take; `but`: what has to
    be so for it, or why nothing is known, in words."""

    seconds: float | None
    hosts: Mapping[str, float] = {}
    cost: float | None = None
    basis: tuple[str, ...] = ()
    but: str = ""


def forecast(
    manifest: Manifest,
    offers: Sequence[Offer],
    sharing: Sharing,
    durations: Durations,
    prices: Mapping[str, float] | None = None,
    done: Mapping[str, Sequence[str]] | None = None,
) -> Forecast:
    """Let a run begin now on its hosts. `prices`: USD per hour of those hosts that have a price; `done`: jobs that are
    not run, by host, since outputs stand for them."""
    done = done or {}
    if not sharing.parts:
        return Forecast(None, but="no job has a host")
    ids = {job for jobs in sharing.parts.values() for job in jobs}.difference(*done.values())
    specs = [spec for spec in manifest.jobs if spec.id in ids]
    unknown = durations.unknown(specs)
    if unknown:
        return Forecast(None, basis=durations.basis(specs), but=unknown_words(unknown))
    found = _simulated(manifest, offers, sharing, durations, done, free=False)
    notes = []
    if found.left:  # somebody else may use cards, for how long nobody knows
        freed = _simulated(manifest, offers, sharing, durations, done, free=True)
        if len(freed.left) < len(found.left):
            found = freed
            notes.append("once the GPUs in use now are free")
    if found.left:
        job, why = next(iter(found.left.items()))
        text = f"{jobs_text(len(found.left))} that can never run there ({job}: {why})"
        if not found.ends:
            return Forecast(None, basis=durations.basis(specs), but=text)
        notes.append(f"without {text}")
    priced = {host: price for host, price in (prices or {}).items() if host in found.until}
    cost = sum(found.until[host] / 3600.0 * price for host, price in priced.items()) if priced else None
    hosts = {host: round(seconds, 1) for host, seconds in found.until.items()}
    return Forecast(
        max(hosts.values()), hosts, None if cost is None else round(cost, 4), durations.basis(specs), ", ".join(notes)
    )


def _simulated(
    manifest: Manifest,
    offers: Sequence[Offer],
    sharing: Sharing,
    durations: Durations,
    done: Mapping[str, Sequence[str]],
    *,
    free: bool,
) -> Simulated:
    """Simulate from second 0. `free`: as if nobody else used the cards."""
    by_name = {offer.name: offer for offer in offers}
    machines = []
    for host, jobs in sharing.parts.items():
        offer, part = by_name[host], Part(host, tuple(jobs))
        alone = len(sharing.parts) == 1 and len(jobs) == len(manifest.jobs)
        machines.append(
            Machine(
                host,
                begun(manifest if alone else part_manifest(manifest, part), 0.0, done.get(host, ())),
                tuple(replace(card, used_mib=0) for card in offer.cards) if free else offer.cards,
                max(1, offer.cores),
                max(offer.speed, MIN_SPEED),
                {} if alone else awaited(manifest, part),
            )
        )

    def seconds(spec: JobSpec) -> float:
        return durations.seconds(spec) or 0.0

    return simulate(machines, seconds, 0.0)


def words(found: Forecast) -> str:
    """Describe the duration and its basis for people."""
    if found.seconds is None:
        return f"unknown: {found.but}"
    last = max(found.hosts, key=lambda host: found.hosts[host])
    where = f"; {last} finishes last" if len(found.hosts) > 1 else ""
    return f"about {duration(found.seconds)}{', ' if found.but else ''}{found.but}{where} ({basis_words(found.basis)})"


def cost_words(found: Forecast, priced: Sequence[str]) -> str:
    """Describe the cost for people. `priced`: the hosts that have a price."""
    if found.cost is not None:
        return f"about {usd(found.cost)} ({listed(priced)})"
    return "unknown, because the duration is" if priced else "no price is known"


def lines(found: Forecast, priced: Sequence[str]) -> tuple[str, ...]:
    """Describe both for people. The cost is left out where no host has a price."""
    return (f"how long: {words(found)}", *([f"cost: {cost_words(found, priced)}"] if priced else []))


def document(found: Forecast, gone: float = 0.0) -> dict[str, Any]:
    """Return the estimate for programs. `gone`: seconds since the run started."""
    whole = None if found.seconds is None else round(found.seconds + gone, 1)
    return {
        "eta_s": found.seconds,
        "makespan_s": whole,
        "cost_usd": found.cost,
        "basis": list(found.basis),
        "hosts_s": dict(found.hosts),
        "note": found.but or None,
    }
