"""List rented instances beside the workers of workers.yaml: rows, total cost, a document and a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from skill.common.text_table import columns
from skill.fleet.drift import is_known_gone
from skill.fleet.startup import PREFIX
from skill.hosts.registry import Worker
from skill.providers.instances import Instance, addresses

if TYPE_CHECKING:
    from rich.text import Text


class Inventory(NamedTuple):
    """All instances, each with its worker (None if none), and workers whose instance is not listed."""

    rows: tuple[tuple[Instance, str | None], ...]
    missing: tuple[Worker, ...]

    @property
    def burn(self) -> float:
        """$ per hour of all with a known price, without traffic."""
        return sum(live.burn or 0.0 for live, _ in self.rows)

    @property
    def unpriced(self) -> tuple[int, ...]:
        """Instances whose present cost is unknown."""
        return tuple(live.id for live, _ in self.rows if live.burn is None)


def take_inventory(live: Iterable[Instance], workers: Iterable[Worker]) -> Inventory:
    """Match instances with workers by their ids."""
    rented = [worker for worker in workers if worker.instance_id is not None]
    names = {worker.instance_id: worker.name for worker in rented}
    rows = tuple((one, names.get(one.id)) for one in live)
    there = {one.id for one, _ in rows}
    missing = (worker for worker in rented if worker.instance_id not in there)
    return Inventory(rows, tuple(worker for worker in missing if not is_known_gone(worker)))


def document(found: Inventory) -> dict[str, Any]:
    """Return what `vast instances --json` prints."""
    return {
        "known": True,
        "instances": [
            {
                "id": live.id,
                "machine_id": live.machine_id,
                "worker": worker,
                "label": live.label,
                "num_gpus": live.num_gpus,
                "gpu_name": live.gpu_name,
                "status": live.status,
                "status_msg": live.status_msg,
                "dph": live.dph,
                "burn": live.burn,
                "ssh": [way._asdict() for way in addresses(live)],
            }
            for live, worker in found.rows
        ],
        "missing": [{"worker": worker.name, "instance_id": worker.instance_id} for worker in found.missing],
        "burn": round(found.burn, 6),
        "unpriced": list(found.unpriced),
    }


def table(found: Inventory, width: int) -> list[Text]:
    """Return the instances for people; those without a worker are marked."""
    from rich.text import Text

    rows: list[Sequence[str | Text]] = [["instance", "worker", "GPU", "status", "$/h now", "ssh", "label"]]
    for live, worker in found.rows:
        way = next(iter(addresses(live)), None)
        rows.append(
            [
                str(live.id),
                worker if worker is not None else Text("untracked", "yellow"),
                live.cards,
                live.status,
                "?" if live.burn is None else f"{live.burn:.4f}",
                "-" if way is None else f"root@{way.host}:{way.port}",
                live.label or "",
            ]
        )
    for missing in found.missing:
        rows.append([str(missing.instance_id), missing.name, "-", Text("gone", "red"), "-", "-", ""])
    return columns(rows, width, right=(4,), head=True)


def lines(found: Inventory) -> list[str]:
    """Describe the total cost, and what to do about differences."""
    if not found.rows:
        lines = ["nothing is rented"]
    else:
        least = "at least " * bool(found.unpriced)
        lines = [f"burn rate: {least}${found.burn:.4f} an hour, ${found.burn * 24:.2f} a day, without traffic"]
    ours = [str(live.id) for live, worker in found.rows if worker is None and (live.label or "").startswith(PREFIX)]
    if ours:
        lines.append(
            f"rented by wavequeue, but not in workers.yaml: {', '.join(ours)}; run the command that rented it again, or"
            f" delete it: wavequeue vast destroy {ours[0]}"
        )
    untracked = [str(live.id) for live, worker in found.rows if worker is None and str(live.id) not in ours]
    if untracked:
        lines.append(f"untracked: no worker has instance_id {', '.join(untracked)}; it is billed all the same")
    if found.missing:
        names = ", ".join(worker.name for worker in found.missing)
        lines.append(f"no longer exists: {names}; see: wavequeue vast reconcile")
    return lines
