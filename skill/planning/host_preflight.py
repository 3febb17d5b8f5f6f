"""Judge one host for the jobs that it would get: faults, warnings, and a table of all hosts. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core import gpu_models
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import Manifest
from queue_manager.core.outputs import escape, is_glob, patterns_overlap
from queue_manager.core.readings import may_use
from queue_manager.core.terminal_text import one_line
from skill.common.text_table import columns
from skill.common.units import jobs_text, mib_text
from skill.hosts.health import LEAST_DISK
from skill.planning import host_needs, slurm_preflight
from skill.planning.host_needs import Way
from skill.planning.local_preflight import NO_SCREEN, needs_screen, unset_words

if TYPE_CHECKING:
    from rich.text import Text

OK, MADE, WARNING, FAULT, UNKNOWN = "ok", "made", "warning", "fault", "unknown"
"""States of a check: holds; the run itself makes it so; does not stop the run; stops it; could not be looked at."""
CHECKS = (
    "ssh", "python", "screen", *host_needs.CHECKS, "disk", "code", "cwd", "environment", "preconditions", "cards",
)  # fmt: skip
_STYLES = {OK: "", MADE: "", WARNING: "yellow", FAULT: "red", UNKNOWN: "dim"}
_NAMED = 5


class Cell(NamedTuple):
    """One check on one host; `says` is for the table."""

    state: str
    says: str


class Blocked(NamedTuple):
    """Jobs that could not start, and why."""

    jobs: tuple[str, ...]
    why: str

    def words(self) -> str:
        return f"{jobs_text(len(self.jobs))} blocked ({listed(self.jobs, _NAMED)}): {self.why}"


class Basics(NamedTuple):
    """What a host has before our code is there. `python`: its version and path, or None with `why_no_python`.

    `disk_free_mib` None: unknown, by df's words in `disk_fault`. `refused`: why nothing may be written there, or None.
    """

    python: str | None
    why_no_python: str
    screen: bool
    disk_free_mib: int | None
    refused: str | None = None
    disk_fault: str = ""


class Seen(NamedTuple):
    """All that was seen of one host.

    `unreachable`: why, or None. `found`: the document of queue_manager.remote.preflight, None where it could not be
    made, for the reason in `not_found`. `way`: how the code comes there.
    `is_here`: it is this machine, whose screen and GPUs `local_preflight.check` judges.
    """

    name: str
    unreachable: str | None = None
    basics: Basics | None = None
    found: Mapping[str, Any] | None = None
    not_found: str = ""
    way: Way = Way()
    is_here: bool = False

    @property
    def pushed(self) -> bool:
        """Whether the code comes with the run."""
        return self.way.pushed


class Verdict(NamedTuple):
    """`cells` by the name of the check. `jobs`: how many the host would get."""

    host: str
    jobs: int
    cells: Mapping[str, Cell]
    blocked: tuple[Blocked, ...]
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


Comes = Callable[[str, str], bool]
"""Whether a path or glob, meant from a directory of the host, is brought by the code that is pushed."""


class Makers:
    """Which job of the run writes a file that a precondition wants."""

    def __init__(self, manifest: Manifest, mine: Iterable[str]) -> None:
        here = set(mine)
        self._jobs = [job for job in manifest.jobs if job.expected_output is not None and job.id in here]
        self._by_cwd: dict[str, tuple[dict[str, list[str]], list[tuple[str, str]]]] = {}

    def of(self, pattern: str, where: str, cwd: str) -> list[str]:
        """Ids of the jobs whose output may be `pattern`, meant from `where`; `cwd`: the run's on that host."""
        literal, globs = self._outputs(cwd)
        wanted = os.path.normpath(os.path.join(escape(where), pattern))
        found = list(literal.get(wanted, ()))
        every = [(path, job) for path, jobs in literal.items() for job in jobs] if is_glob(pattern) else []
        return found + [job for path, job in [*globs, *every] if patterns_overlap(path, wanted)]

    def _outputs(self, cwd: str) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
        if cwd not in self._by_cwd:
            literal: dict[str, list[str]] = {}
            globs: list[tuple[str, str]] = []
            for job in self._jobs:
                path = os.path.normpath(os.path.join(escape(cwd), escape(job.cwd or "."), job.expected_output or ""))
                if is_glob(path):
                    globs.append((path, job.id))
                else:
                    literal.setdefault(path, []).append(job.id)
            self._by_cwd[cwd] = literal, globs
        return self._by_cwd[cwd]


def judge(manifest: Manifest, jobs: Sequence[str], seen: Seen, comes: Comes) -> Verdict:
    """Judge one host for the jobs (ids) that it would get."""
    made = _Judge(manifest, jobs, seen, comes)
    made.judge()
    cells = {name: made.cells.get(name, Cell(UNKNOWN, "-")) for name in CHECKS}
    return Verdict(seen.name, len(jobs), cells, tuple(made.blocked), tuple(made.faults), tuple(made.warnings))


class _Judge:
    def __init__(self, manifest: Manifest, jobs: Sequence[str], seen: Seen, comes: Comes) -> None:
        self._manifest, self._jobs, self._seen, self._comes = manifest, frozenset(jobs), seen, comes
        self._specs = [job for job in manifest.jobs if job.id in self._jobs]
        self.cells: dict[str, Cell] = {}
        self.blocked: list[Blocked] = []
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def judge(self) -> None:
        seen = self._seen
        if seen.unreachable is not None or seen.basics is None:
            self._fault("ssh", "unreachable", f"unreachable: {seen.unreachable}")
            return
        self.cells["ssh"] = Cell(OK, "ok")
        self._basics(seen.basics)
        if seen.found is None:
            if seen.not_found:
                self.faults.append(seen.not_found)
            return
        screen = seen.found["probe"].get("screen")
        if (
            not seen.is_here
            and needs_screen(self._manifest)
            and isinstance(screen, dict)
            and isinstance(screen.get("fault"), str)
        ):
            words = one_line(screen["fault"], 300)
            self._fault("screen", "does not run", f"screen does not run there, and every job runs in one: {words}")
        on_cards = any(job.gpus for job in self._specs)
        for need in host_needs.needs(seen.found, seen.way, seen.name, on_cards=on_cards):
            self.cells[need.check] = Cell(need.state, need.short)
            if need.long:
                (self.faults if need.state == FAULT else self.warnings).append(need.long)
        self._places(seen.found)
        self._environment(seen.found["activation"])
        self._preconditions(seen.found)
        self._cards(seen.found["probe"])

    def _fault(self, check: str, short: str, long: str) -> None:
        self.cells[check] = Cell(FAULT, short)
        self.faults.append(long)

    def _warn(self, check: str, short: str, long: str) -> None:
        self.cells[check] = Cell(WARNING, short)
        self.warnings.append(long)

    def _basics(self, basics: Basics) -> None:
        setup = f"; set it up with: wavequeue hosts setup {self._seen.name}"
        if basics.python is None:
            self._fault("python", "none", f"{basics.why_no_python}{setup}")
        else:
            self.cells["python"] = Cell(OK, basics.python)
        if basics.screen:
            self.cells["screen"] = Cell(OK, "ok")
        elif self._seen.is_here:
            self.cells["screen"] = Cell(FAULT, "missing") if needs_screen(self._manifest) else Cell(OK, "not needed")
        elif needs_screen(self._manifest):
            self._fault("screen", "missing", f"{NO_SCREEN}{setup}")
        else:
            self.cells["screen"] = Cell(OK, "not needed")
        free = basics.disk_free_mib
        if basics.refused is not None:
            self._fault("disk", "cannot write", basics.refused)
        elif free is None:
            why = f": {basics.disk_fault}" if basics.disk_fault else ""
            self._warn("disk", "unknown", f"its free disk space is unknown{why}")
        elif free < LEAST_DISK:
            self._fault("disk", f"{free} MiB free", f"only {free} MiB of its disk are free; {LEAST_DISK} are needed")
        else:
            self.cells["disk"] = Cell(OK, f"{mib_text(free)} free")

    def _places(self, found: Mapping[str, Any]) -> None:
        path, there = found["cwd"]["path"], found["cwd"]["there"]
        basics = self._seen.basics
        too_large = host_needs.code_fault(self._seen.way, basics and basics.disk_free_mib, is_there=there)
        if too_large is not None:
            self._fault("code", "larger than the disk", too_large)
        elif self._seen.pushed:
            self.cells["code"] = Cell(OK, "is updated") if there else Cell(MADE, "made by the push")
        elif there:
            self.cells["code"] = Cell(OK, "there already")
        elif self._seen.is_here:
            self.faults.append(f"cwd {path} does not exist; create it, or give another one")
        else:
            self._fault("code", "missing", f"{path} does not exist, and code is not pushed to an absolute cwd")
        missing = [
            row
            for row in found["cwds_missing"]
            if self._jobs.intersection(row["jobs"]) and not (self._seen.pushed and self._comes(".", row["path"]))
        ]
        for row in missing:
            self._block(row["jobs"], f"their cwd {row['path']} does not exist")
        if missing:
            self.cells["cwd"] = Cell(FAULT, f"{len(missing)} missing")
        elif there:
            self.cells["cwd"] = Cell(OK, path)
        else:
            self.cells["cwd"] = Cell(MADE, f"{path}, made by the push") if self._seen.pushed else Cell(FAULT, "missing")

    def _environment(self, found: Mapping[str, Any]) -> None:
        kind = found["kind"]
        if kind is None:
            self.cells["environment"] = Cell(OK, f"none required; {found['python'] or 'no python'}")
        elif found.get("note"):
            self._warn("environment", f"{kind} {found['name']}: not there yet", found["note"])
        elif found["fault"] is None:
            self.cells["environment"] = Cell(OK, f"{kind} {found['name']}: {found['python'] or 'no python'}")
        else:
            self._fault(
                "environment", f"{kind} {found['name']} is missing", f"{kind} {found['name']}: {found['fault']}"
            )

    def _preconditions(self, found: Mapping[str, Any]) -> None:
        makers = Makers(self._manifest, self._jobs)
        cwd = found["cwd"]["path"]
        made: dict[str, None] = {}
        unmet = later = 0
        for row in found["unmet"]:
            ids = [job for job in row["jobs"] if job in self._jobs]
            if not ids:
                continue
            if row["type"] in ("file_exists", "checkpoint_exists"):
                producers = makers.of(row["path"], row["cwd"], cwd)
                # A job that waits for its own output waits forever.
                waiting = [job for job in ids if all(one == job for one in producers)]
                if waiting and self._seen.pushed and self._comes(row["path"], row["cwd"]):
                    waiting = []
                    producers = ["the push"]
                if len(waiting) < len(ids):
                    made.update(dict.fromkeys(producers))
                if waiting:
                    unmet += self._block(waiting, row["says"])
            elif row["type"] == "command" and self._seen.pushed and not found["cwd"]["there"]:
                later += len(ids)
            else:
                unmet += self._block(ids, row["says"])
        self._sum_up(unmet, list(made), later, found["untried"])
        self.warnings += unset_words(found, self._jobs)

    def _sum_up(self, unmet: int, made: Sequence[str], later: int, untried: int) -> None:
        concerned = sum(bool(job.preconditions) for job in self._specs)
        if later:
            self.warnings.append(f"commands of preconditions of {jobs_text(later)} are tried once the code is there")
        if untried:
            self.warnings.append(f"{untried} more commands of preconditions were not tried")
        if unmet:
            self.cells["preconditions"] = Cell(FAULT, f"{jobs_text(unmet)} unmet")
        elif later or untried:
            self.cells["preconditions"] = Cell(WARNING, "some not tried yet")
        elif made:
            self.cells["preconditions"] = Cell(MADE, f"made by {listed(made, _NAMED)}")
        else:
            self.cells["preconditions"] = Cell(OK, f"{jobs_text(concerned)} ok" if concerned else "none")

    def _block(self, ids: Iterable[str], why: str) -> int:
        mine = tuple(job for job in ids if job in self._jobs)
        self.blocked.append(Blocked(mine, why))
        self.faults.append(self.blocked[-1].words())
        return len(mine)

    def _cards(self, probe: Mapping[str, Any]) -> None:
        if self._manifest.launcher == SLURM:
            slurm = slurm_preflight.check(self._seen.found or {})
            self.cells["cards"] = Cell(FAULT if slurm.faults else WARNING if slurm.warnings else OK, slurm.short)
            self.faults += slurm.faults
            self.warnings += slurm.warnings
            return
        concerned = [job for job in self._specs if job.gpus]
        models = {job.gpu_model for job in concerned}
        usable = [
            row
            for row in probe["gpus"]
            if may_use(row["index"], self._manifest.gpus) and any(gpu_models.fits(one, row["name"]) for one in models)
        ]
        threshold = self._manifest.gpu_free_threshold_mib
        free = sum(row["used_mib"] is not None and row["used_mib"] < threshold for row in usable)
        most = self._manifest.max_parallel
        bound = f" for max_parallel {most}" if most is not None else ""
        text = f"{free} of {len(usable)} free{bound}"
        if not concerned:
            self.cells["cards"] = Cell(OK, f"none needed; {probe['cpus']} cores" + (bound and f"{bound}"))
        elif "gpu_unreadable" in probe:
            words = f"its GPUs cannot be read now, and jobs wait until they can: {probe['gpu_unreadable']}"
            self._warn("cards", "unreadable", words)
        elif not usable and self._seen.is_here:
            self.cells["cards"] = Cell(FAULT, "none")
        elif not usable:
            note = probe.get("gpu_note") or "none was found"
            self._fault("cards", "none", f"it has no GPU ({note}), and one is needed by {jobs_text(len(concerned))}")
        elif not free and all(job.gpu_mem_mib is None for job in concerned):
            self._warn("cards", text, f"none of its {len(usable)} GPUs is free now; jobs wait until one is")
        else:
            self.cells["cards"] = Cell(OK, text)


def document(project: str, verdicts: Sequence[Verdict], unplaced: Mapping[str, str]) -> dict[str, Any]:
    """Return what `preflight --json` prints."""
    return {
        "project": project,
        "ok": not stops(verdicts, unplaced),
        "hosts": [
            {
                "name": one.host,
                "jobs": one.jobs,
                "checks": {name: cell._asdict() for name, cell in one.cells.items()},
                "blocked": [{"jobs": list(row.jobs), "why": row.why} for row in one.blocked],
                "faults": list(one.faults),
                "warnings": list(one.warnings),
            }
            for one in verdicts
        ],
        "unplaced": dict(unplaced),
    }


def stops(verdicts: Sequence[Verdict], unplaced: Mapping[str, str]) -> bool:
    """Return whether a check would stop the run."""
    return bool(unplaced) or any(one.faults for one in verdicts)


def table(manifest: Manifest, verdicts: Sequence[Verdict], width: int) -> list[Text]:
    """Return a row for each check, with a column for each host."""
    from rich.text import Text

    kinds = {"container": manifest.container, "conda": manifest.conda, "venv": manifest.venv, "uv": manifest.uv or None}
    kind = next((kind for kind, name in kinds.items() if name is not None), "environment")
    titles = {"environment": kind, "cards": "GPUs"}
    rows: list[list[str | Text]] = [["check", *(one.host for one in verdicts)]]
    for name in CHECKS:
        cells = [one.cells[name] for one in verdicts if name in one.cells]
        if not cells:
            continue
        rows.append([
            titles.get(name, name),
            *(Text(cell.says, _STYLES[cell.state]) for cell in cells),
        ])  # fmt: skip
    rows.append(["jobs", *(str(one.jobs) for one in verdicts)])
    return columns(rows, width, head=True)


def unplaced_lines(unplaced: Mapping[str, str]) -> list[str]:
    """Name the jobs that no host can run, a line for each reason."""
    jobs: dict[str, list[str]] = {}
    for job, why in unplaced.items():
        jobs.setdefault(why, []).append(job)
    return [
        f"{jobs_text(len(ids))} can run on none of these hosts ({listed(ids, _NAMED)}): {why}"
        for why, ids in jobs.items()
    ]


def fault_lines(verdicts: Sequence[Verdict], unplaced: Iterable[str]) -> list[str]:
    """List what would stop the run, a line each."""
    return [*(f"{one.host}: {text}" for one in verdicts for text in one.faults), *unplaced]


def warning_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """List what would not stop it, a line each."""
    return [f"{one.host}: {text}" for one in verdicts for text in one.warnings]
