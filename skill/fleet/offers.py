"""Find the offer that does the work at the lowest cost: requirements, what fits, and the total cost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from queue_manager.core.durations import Durations, basis_words, unknown_words
from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import Card
from queue_manager.core.state_types import need_of
from queue_manager.core.times import duration
from skill.common.text_table import columns
from skill.common.units import count_text
from skill.fleet.profiles import Profile
from skill.planning import assign_jobs, forecast
from skill.providers.instances import HOURS_PER_MONTH, Offer
from skill.providers.provider import Need

if TYPE_CHECKING:
    from rich.text import Text

_MARGIN = 1.25
"""How long an offer must be available, as a multiple of the estimated duration of the work."""
_NEARLY = 1.25
_SHOWN = 20


class Work(NamedTuple):
    """What is to be done. `hours`: how long it takes on the cards of an offer, each as fast as one of `ref_dlp`; None:
    never. `per_card`: `ref_dlp` is that of one card and the work spreads over all; else of the whole machine.

    `least_cards`, `gpu_ram_mib`: what its jobs need, where a spec says it. `how`: where the hours are from, in words.
    """

    hours: Callable[[Offer], float | None]
    ref_dlp: float | None
    how: str
    per_card: bool = False
    least_cards: int | None = None
    gpu_ram_mib: float | None = None


class Priced(NamedTuple):
    """An offer, and what the work takes and costs on it, in hours and $."""

    offer: Offer
    hours: float
    dph: float
    gpu: float
    disk: float
    traffic: float

    @property
    def total(self) -> float:
        return self.gpu + self.disk + self.traffic


class Ranking(NamedTuple):
    """Offers, the cheapest in the end first; and how many were left out for which reason."""

    priced: tuple[Priced, ...]
    left_out: Mapping[str, int]


def plain_work(profile: Profile) -> Work:
    """Return the work of a profile."""
    dlp = f" on a machine of DLP {profile.ref_dlp:g}" if profile.ref_dlp is not None else ""
    return Work(lambda _offer: profile.ref_hours, profile.ref_dlp, f"{profile.ref_hours:g} h{dlp}")


def spec_work(manifest: Manifest, durations: Durations, profile: Profile) -> Work:
    """Return the work of a spec, by the expected durations of its jobs.

    Where nothing is known about a phase, all of the work counts as `ref_hours` of the profile.
    """
    cards = max((job.gpus for job in manifest.jobs), default=0)
    mib = max((job.gpu_mem_mib or 0 for job in manifest.jobs), default=0)
    known = not durations.unknown(manifest.jobs)
    on_cpu = any(job.gpus == 0 for job in manifest.jobs) and manifest.max_parallel is None
    of_model = any(job.gpu_model for job in manifest.jobs)
    sizes: dict[tuple[int, int, int, str | None], float | None] = {}

    def hours(offer: Offer) -> float | None:
        one = machine(offer)
        # Machines that differ in nothing that the jobs meet are simulated once.
        room = one.cards[0].total_mib if mib and one.cards else 0
        size = len(one.cards), room, one.cores if on_cpu else 0, offer.gpu_name if of_model else None
        if size not in sizes:
            sizes[size] = _hours(manifest, durations if known else None, one, profile)
        return sizes[size]

    if known:
        how = basis_words(durations.basis(manifest.jobs))
    else:
        how = f"{profile.ref_hours:g} h, since {unknown_words(durations.unknown(manifest.jobs))}"
    dlp = profile.ref_dlp if cards else None
    if dlp is not None:
        how += f", assumed to be on GPUs of DLP {dlp:g}"
    return Work(hours, dlp, how, per_card=True, least_cards=cards, gpu_ram_mib=mib or None)


def machine(offer: Offer, speed: float = 1.0) -> assign_jobs.Offer:
    """Return an offer as a host for jobs."""
    mib = int(offer.gpu_ram_mib or 0)
    cards = tuple(Card(n, f"GPU-{n}", offer.gpu_name or "GPU", mib, 0) for n in range(offer.num_gpus or 0))
    return assign_jobs.Offer(f"offer {offer.id}", cards, max(1, int(offer.cpu_cores or 1)), speed)


def _hours(manifest: Manifest, durations: Durations | None, one: assign_jobs.Offer, profile: Profile) -> float | None:
    """Hours of a whole spec on a machine; None if it cannot run there. `durations`: None where they are not known."""
    needs = {need_of(job) for job in manifest.jobs}
    if any(assign_jobs.unservable(need, manifest, one) for need in needs):
        return None
    if durations is None:
        return profile.ref_hours
    seconds = forecast.forecast(manifest, [one], assign_jobs.all_on(manifest, one), durations).seconds
    return None if seconds is None else seconds / 3600


def need(profile: Profile, work: Work, blacklist: Collection[int]) -> Need:
    """Return what a provider is asked for. It may apply less than all of it: `rank` checks again."""
    return Need(
        profile.disk_gb,
        profile.reliability,
        cards=profile.cards if work.least_cards is None else None,
        least_cards=work.least_cards,
        gpu_names=profile.gpu_names,
        gpu_ram_mib=gpu_ram_mib(profile, work),
        cpu_ram_gb=profile.cpu_ram_gb,
        cpu_cores=profile.cpu_cores,
        cuda=profile.cuda,
        inet_down=profile.inet_down,
        max_dph=profile.max_dph,
        banned=frozenset(blacklist),
    )


def gpu_ram_mib(profile: Profile, work: Work) -> float:
    """What one card has to have. Cards show a little less than they are sold with, so that 1000 MiB are taken for a
    GB."""
    if work.least_cards == 0:
        return 0.0
    return max(profile.gpu_ram_gb * 1000, work.gpu_ram_mib or 0.0)


def rank(offers: Iterable[Offer], profile: Profile, work: Work, blacklist: Collection[int]) -> Ranking:
    """Price all offers that fit. An offer that lacks a required value does not fit."""
    priced: list[Priced] = []
    left_out: Counter[str] = Counter()
    for offer in offers:
        found = price(offer, profile, work) if (why := _unfit(offer, profile, work, blacklist)) is None else why
        if isinstance(found, str):
            left_out[found] += 1
        else:
            priced.append(found)
    priced.sort(key=lambda row: (row.total, row.hours, row.offer.id))
    return Ranking(tuple(priced), dict(left_out.most_common()))


def _unfit(offer: Offer, profile: Profile, work: Work, blacklist: Collection[int]) -> str | None:
    """Return why an offer does not fit, whatever it costs; None if it does."""
    if offer.machine_id is None:
        return "does not name its machine"
    if offer.machine_id in blacklist:
        return "blacklisted"
    if offer.rentable is False:
        return "not available"
    if offer.verification != "verified":
        return "not verified"
    if work.least_cards is not None:
        if offer.num_gpus is None or offer.num_gpus < work.least_cards:
            return "too few GPUs"
    elif profile.cards is not None and offer.num_gpus != profile.cards:
        return f"not {count_text(profile.cards, 'GPU')}"
    names = {name.replace("_", " ").lower() for name in profile.gpu_names}
    if names and (offer.gpu_name or "").replace("_", " ").lower() not in names:
        return "another GPU"
    least = (
        ("GPU memory", offer.gpu_ram_mib, gpu_ram_mib(profile, work)),
        ("memory", offer.cpu_ram_mib, profile.cpu_ram_gb * 1000),
        ("cores", offer.cpu_cores, profile.cpu_cores),
        ("disk", offer.disk_gb, profile.disk_gb),
        ("CUDA", offer.cuda, profile.cuda),
        ("download speed", offer.inet_down, profile.inet_down),
        ("reliability", offer.reliability, profile.reliability),
        ("open ports", offer.direct_ports, 1),
    )
    for name, has, wants in least:
        if wants and (has is None or has < wants):
            return f"too little {name}"
    return None


def price(offer: Offer, profile: Profile, work: Work) -> Priced | str:
    """Return what the work costs on an offer; else why that is unknown, or why it does not fit."""
    hours = work.hours(offer)
    if hours is None:
        return "cannot run all jobs"
    speed = relative_speed(offer, work)
    if speed is None:
        return "does not say its DLP"
    hours /= speed
    rates = _rates(offer, profile.disk_gb)
    if rates is None:
        return "does not say its price"
    gpu, disk = rates
    if profile.max_dph is not None and gpu + disk > profile.max_dph + 1e-9:
        return "above the price limit"
    if offer.duration is None or offer.duration < hours * 3600 * _MARGIN:
        return "not available long enough"
    if offer.inet_down_cost is None or offer.inet_up_cost is None:
        return "does not say what traffic costs"
    traffic = profile.down_gb * offer.inet_down_cost + profile.up_gb * offer.inet_up_cost
    return Priced(offer, hours, gpu + disk, gpu * hours, disk * hours, traffic)


def relative_speed(offer: Offer, work: Work) -> float | None:
    """Return the speed of an offer relative to the machine of its reference hours; None where its DLP is unknown."""
    if work.ref_dlp is None:
        return 1.0
    dlp = (offer.dlperf or 0.0) / (max(1, offer.num_gpus or 1) if work.per_card else 1)
    return dlp / work.ref_dlp or None


def alternatives(ranking: Ranking) -> tuple[Priced, ...]:
    """Return the best offer, and those that may replace it without asking again: all that cost at most a quarter more,
    in total and per hour."""
    best = ranking.priced[0]
    return tuple(one for one in ranking.priced if one.total <= best.total * _NEARLY and one.dph <= best.dph * _NEARLY)


def _rates(offer: Offer, disk_gb: float) -> tuple[float, float] | None:
    """$ per hour without the disk, and for a disk of this size."""
    base = offer.dph_base
    if base is None and offer.dph is not None and offer.storage_dph is not None:
        base = offer.dph - offer.storage_dph
    if base is None or offer.storage_cost is None:
        return None
    return base, offer.storage_cost * disk_gb / HOURS_PER_MONTH


# -- what people and programs read ------------------------------------------------------------------------------------


def document(ranking: Ranking, profile: Profile, work: Work, *, complete: bool) -> dict[str, Any]:
    """Return what `vast hunt --json` prints."""
    return {
        "known": True,
        "profile": profile._asdict(),
        "work": work.how,
        "offers": [
            {
                **row.offer._asdict(),
                "hours": round(row.hours, 4),
                "dph_with_disk": round(row.dph, 6),
                "cost": {
                    "gpu": round(row.gpu, 4),
                    "disk": round(row.disk, 4),
                    "traffic": round(row.traffic, 4),
                    "total": round(row.total, 4),
                },
            }
            for row in ranking.priced
        ],
        "left_out": dict(ranking.left_out),
        "complete": complete,
    }


def table(ranking: Ranking, width: int) -> list[Text]:
    """Return the best offers for people."""
    rows: list[Sequence[str]] = [
        ["offer", "machine", "GPU", "GB each", "DLP", "$/h", "takes", "total $", "reliable", "place"]
    ]
    for row in ranking.priced[:_SHOWN]:
        offer = row.offer
        rows.append(
            [
                str(offer.id),
                str(offer.machine_id),
                offer.cards,
                f"{(offer.gpu_ram_mib or 0) / 1000:.1f}",
                "-" if offer.dlperf is None else f"{offer.dlperf:.0f}",
                f"{row.dph:.3f}",
                duration(row.hours * 3600),
                f"{row.total:.2f}",
                f"{100 * (offer.reliability or 0):.1f} %",
                offer.geolocation or "-",
            ]
        )
    return columns(rows, width, right=(3, 4, 5, 7, 8), head=True)


def lines(ranking: Ranking, profile: Profile, work: Work, *, complete: bool) -> list[str]:
    """Explain how the table was made."""
    traffic = f"{profile.down_gb:g} GB down and {profile.up_gb:g} GB up"
    text = [f"profile {profile.name} ({profile.source}), disk {profile.disk_gb:g} GB, {traffic}; work: {work.how}"]
    if len(ranking.priced) > _SHOWN:
        text.append(f"{len(ranking.priced) - _SHOWN} more fit, and cost more; all: --json")
    if ranking.left_out:
        text.append("left out: " + ", ".join(f"{count} {why}" for why, count in ranking.left_out.items()))
    if not complete:
        text.append("there are more offers than could be listed; only the cheapest per hour were considered")
    return text
