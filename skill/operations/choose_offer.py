"""Choose a machine to rent: rank the offers that fit by the cost of the whole work, or take one by its number."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from skill.common.errors import FailedError, UseError
from skill.fleet import offers, settings
from skill.fleet.offers import Priced, Ranking, Work
from skill.fleet.profiles import CPU, DEFAULT, Profile
from skill.fleet.provider import connected
from skill.operations.build_spec import Given, beside, build, expected
from skill.planning.assign_jobs import Offer as Machine
from skill.providers.outcomes import Gone, Unknown
from skill.providers.provider import Provider


class Asked(NamedTuple):
    """Requirements given beside a profile; None: as in the profile. `max_dph`: price limit in $ per hour, disk
    included; `ref_hours`: hours of work on a machine of DLP `ref_dlp`; `disk_gb`: disk in GB."""

    max_dph: float | None = None
    ref_hours: float | None = None
    ref_dlp: float | None = None
    disk_gb: float | None = None


AS_PROFILE = Asked()
"""No requirements beside the profile."""


class Hunted(NamedTuple):
    """The ranked offers. `complete`: these are all offers; else only the cheapest."""

    ranking: Ranking
    profile: Profile
    work: Work
    complete: bool


class Looked(NamedTuple):
    """One offer as a host for jobs. `words`: its GPUs; `dph`: USD per hour, disk included."""

    number: int
    machine: Machine
    words: str
    dph: float


def hunt(
    where: Path, spec: Given | None = None, profile: str | None = None, asked: Asked = AS_PROFILE
) -> Hunted | Unknown:
    """Rank offers by the cost of the whole work. Rents nothing.

    `where`: workers.yaml; `spec`: the spec whose jobs are to run. Raises UseError and SpecErrors.
    """
    chosen, work = wanted(where, spec, profile, asked)
    banned = {one.machine_id for one in settings.read_blacklist(where)}
    with connected() as client:
        found = client.search(offers.need(chosen, work, banned))
    if isinstance(found, Unknown):
        return found
    return Hunted(offers.rank(found.offers, chosen, work, banned), chosen, work, found.complete)


def wanted(where: Path, spec: Given | None, name: str | None, asked: Asked) -> tuple[Profile, Work]:
    """Return the profile (`name`; None: the default for the spec) changed by what was asked, and the work: that of
    `spec`, or what the profile says. `where`: workers.yaml. Raises UseError and SpecErrors."""
    typed = {key: value for key, value in asked._asdict().items() if value is not None}
    known = settings.read_profiles(where)
    if spec is None:
        profile = settings.profile(known, name or DEFAULT)._replace(**typed)
        return profile, offers.plain_work(profile)
    manifest = build(spec).manifest
    needs_card = any(job.gpus for job in manifest.jobs)
    profile = settings.profile(known, name or (DEFAULT if needs_card else CPU))._replace(**typed)
    durations = expected(manifest, beside(spec))
    return profile, offers.spec_work(manifest, durations, profile)


def look(where: Path, spec: Given, number: int) -> Looked:
    """Check one offer against a spec. Rents nothing. Raises FailedError where the offer no longer exists or does not
    fit, UseError and SpecErrors."""
    profile, work = wanted(where, spec, None, AS_PROFILE)
    with connected() as client:
        return _looked(by_number(client, where, number, profile, work), work)


def look_at_best(where: Path, spec: Given, profile: str | None, asked: Asked) -> Looked:
    """Check the best offer for a spec. Rents nothing. Raises as `look` does."""
    chosen, work = wanted(where, spec, profile, asked)
    with connected() as client:
        return _looked(rank(client, where, chosen, work)[0], work)


def _looked(found: Priced, work: Work) -> Looked:
    speed = offers.relative_speed(found.offer, work) or 1.0
    words = found.offer.cards
    if work.ref_dlp is not None:
        words += f" of DLP {speed * work.ref_dlp:.0f} each, jobs measured on DLP {work.ref_dlp:g}"
    return Looked(found.offer.id, offers.machine(found.offer, speed), words, found.dph)


def rank(client: Provider, where: Path, profile: Profile, work: Work) -> tuple[Priced, ...]:
    """Return the best offer and its alternatives. Raises FailedError where there is none."""
    banned = {one.machine_id for one in settings.read_blacklist(where)}
    found = client.search(offers.need(profile, work, banned))
    if isinstance(found, Unknown):
        raise FailedError(f"the offers cannot be listed, so nothing was rented: {found.reason}")
    ranking = offers.rank(found.offers, profile, work, banned)
    if not ranking.priced:
        why = ", ".join(f"{count} {words}" for words, count in ranking.left_out.items()) or "there are none"
        raise FailedError(f"no offer fits ({why}), and nothing was rented; see: wavequeue vast hunt")
    return offers.alternatives(ranking)


def by_number(client: Provider, where: Path, number: int, profile: Profile, work: Work) -> Priced:
    """Return one offer by its number, whether or not it fits a profile. Raises FailedError and UseError."""
    one = client.offer(number, profile.disk_gb)
    if isinstance(one, Unknown):
        raise FailedError(f"offer {number} cannot be looked up, so nothing was rented: {one.reason}")
    if isinstance(one, Gone) or one.rentable is False:
        raise FailedError(f"offer {number} is not available (any more); see: wavequeue vast hunt")
    ban = next((row for row in settings.read_blacklist(where) if row.machine_id == one.machine_id), None)
    if ban is not None:
        raise UseError(
            f"machine {ban.machine_id} of offer {number} is on the blacklist ({ban.reason}); to remove it: wavequeue "
            f"vast blacklist remove {ban.machine_id}"
        )
    if one.machine_id is None:
        raise FailedError(f"offer {number} does not name its machine, so it is not rented")
    if one.disk_gb is not None and one.disk_gb < profile.disk_gb:
        raise FailedError(f"offer {number} has {one.disk_gb:g} GB of disk, and {profile.disk_gb:g} are needed (--disk)")
    priced = offers.price(one, profile, work)
    if isinstance(priced, str):
        raise FailedError(f"offer {number} {priced}, so it is not rented")
    return priced


def terms(best: Priced, work: Work, image: str, *, more: bool) -> list[str]:
    """Describe what is about to be rented and what it will cost, in lines."""
    offer = best.offer
    place = f", {offer.geolocation}" if offer.geolocation else ""
    reliable = f"reliability {100 * (offer.reliability or 0):.1f} %"
    found = [
        f"offer {offer.id}: {offer.cards}, machine {offer.machine_id}{place}, {reliable}; image {image}",
        f"${best.dph:.4f} an hour with its disk; the work: {best.hours:.2f} h, ${best.total:.2f} in all with traffic",
        f"(work: {work.how})",
    ]
    if more:
        found.append("if it fails to start: another one that costs at most a quarter more")
    return found
