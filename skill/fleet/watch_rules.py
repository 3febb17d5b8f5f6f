"""Decide whether the watcher rents something now, and which offer; and which offers it narrowly rejects. Pure.

Its limits apply to everything that the account has, whoever rented it, each at its price while running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from skill.fleet.offers import Priced
from skill.fleet.profiles import DEFAULT, Profile
from skill.providers.instances import OFFLINE, Instance

NEARLY = 1.25
"""Offers are looked at up to so many times the price limit: what only just misses is worth a line."""


class Rules(NamedTuple):
    """What the watcher goes by. `every`: seconds between looks; prices in $ per hour with the disk; `most_dph`: of all
    instances of the account together; `least_balance` in $; `pool`: of the workers that it makes."""

    profile: str = DEFAULT
    every: float = 300.0
    max_dph: float = 0.10
    min_dlp_per_usd: float = 180.0
    most_instances: int = 1
    most_dph: float = 0.50
    least_balance: float = 5.0
    pool: str | None = None


NUMBERS: dict[str, tuple[float, float]] = {
    "max_dph": (0.001, 10_000), "min_dlp_per_usd": (0, 1e9), "most_instances": (0, 1000), "most_dph": (0, 100_000),
    "least_balance": (0, 1e9),
}  # fmt: skip
"""Rules that are numbers, with the least and the most that each may be."""


class Choice(NamedTuple):
    """`take`: the offer to be rented, None if none; `near`: offers that miss one limit, and which; `held`: why nothing
    may be rented at all, None if something may."""

    take: Priced | None = None
    near: tuple[tuple[Priced, str], ...] = ()
    held: str | None = None


def looked_at(rules: Rules, profile: Profile) -> Profile:
    """The profile by which offers are asked for."""
    return profile._replace(max_dph=rules.max_dph * NEARLY)


def decide(rules: Rules, live: Sequence[Instance], credit: float | None, offers: Sequence[Priced]) -> Choice:
    """Decide what to rent. `offers`: those that fit the profile, the best first; `credit`: $ of the account, None:
    unknown."""
    running = _rate(live)
    held = _held(rules, live, credit, running)
    near: list[tuple[Priced, str]] = []
    take = None
    for one in offers:
        missed = _missed(rules, one)
        if not missed and held is None and take is None:
            missed = _above_caps(rules, one, running or 0.0, credit or 0.0)
            take = one if not missed else None
        if len(missed) == 1:
            near.append((one, missed[0]))
    return Choice(take, tuple(near), held)


def _rate(live: Sequence[Instance]) -> float | None:
    """$ per hour of all instances when they run; None where the price of one is not known."""
    prices = [one.dph for one in live if one.status != OFFLINE or one.dph is not None]
    return None if None in prices else sum(price for price in prices if price is not None)


def _held(rules: Rules, live: Sequence[Instance], credit: float | None, running: float | None) -> str | None:
    if len(live) >= rules.most_instances:
        there = "1 instance is" if len(live) == 1 else f"{len(live)} instances are"
        return f"{there} there, and most_instances is {rules.most_instances}"
    if running is None:
        return "what an instance of the account costs is unknown"
    if credit is None:
        return "the balance is unknown"
    if credit < rules.least_balance:
        return f"the balance is ${credit:.2f}, below least_balance, ${rules.least_balance:.2f}"
    return None


def _missed(rules: Rules, one: Priced) -> list[str]:
    """Which limits an offer misses."""
    missed = []
    if one.dph > rules.max_dph:
        missed.append(f"${one.dph:.4f} an hour, above max_dph, ${rules.max_dph:.4f}")
    worth = dlp_per_usd(one)
    if worth is None or worth < rules.min_dlp_per_usd:
        says = "it does not say its DLP" if worth is None else f"DLP/$ is {worth:.0f}"
        missed.append(f"{says}, below min_dlp_per_usd, {rules.min_dlp_per_usd:.0f}")
    return missed


def _above_caps(rules: Rules, one: Priced, running: float, credit: float) -> list[str]:
    """Which caps would be passed if an offer were rented, and run for an hour."""
    missed = []
    if running + one.dph > rules.most_dph:
        missed.append(f"with it all would cost ${running + one.dph:.4f} an hour, above most_dph, ${rules.most_dph:.4f}")
    if credit - one.dph < rules.least_balance:
        missed.append(f"an hour of it would leave less than least_balance, ${rules.least_balance:.2f}")
    return missed


def dlp_per_usd(one: Priced) -> float | None:
    """DLPerf for a $ an hour, its disk included, as Vast.ai counts it; None where it does not say its DLP."""
    return one.offer.dlperf / one.dph if one.offer.dlperf is not None and one.dph > 0 else None


def line(one: Priced) -> str:
    """Describe an offer in a line of the log."""
    worth = dlp_per_usd(one)
    says = "" if worth is None else f", DLP/$ {worth:.0f}"
    return f"offer {one.offer.id} ({one.offer.cards}, machine {one.offer.machine_id}, ${one.dph:.4f} an hour{says})"


def document(rules: Rules, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return the rules with their sources, as `status --json` prints them."""
    return {name: {"value": value, "source": sources[name]} for name, value in rules._asdict().items()}
