"""Parse the nodes of a spec into forms: every level is read, and every fault of its shape noted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from build_manifest.environment_keys import read_environment
from build_manifest.faults import Faults, Mark, listed
from build_manifest.fields import Fields, Table
from build_manifest.forms import (
    EACH_ID,
    GRID_KEYS,
    JOB_KEYS,
    OOM_RETRY_KEYS,
    PHASE_KEYS,
    SHELL_KEYS,
    TEARDOWN_KEYS,
    TOP_KEYS,
    JobForm,
    PhaseForm,
    SpecForm,
)
from build_manifest.grid_fields import read_grid
from build_manifest.health import read_health
from build_manifest.machines import read_cards, read_hosts
from build_manifest.metrics import read_metrics
from build_manifest.names import RESERVED, is_template
from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.notify import read_notify
from build_manifest.paths import check_path, each_path, has_braces
from build_manifest.preconditions import read_preconditions
from build_manifest.recover import read_recover
from build_manifest.slurm import read_slurm, read_top_slurm
from build_manifest.values import (
    deadline,
    delay,
    dollars,
    integer,
    number,
    quantity,
    seconds,
)
from queue_manager.core.launchers import OF_SPECS
from queue_manager.core.layout import id_fault, project_fault
from queue_manager.core.manifest import WAVES, WHEN_DONE, OomRetry

NUMBERS: dict[str, Callable[[str], float]] = {
    "gpus": partial(integer, minimum=0),
    "gpu_mem_mib": partial(integer, minimum=1),
    "timeout": seconds,
    "grace": seconds,
    "priority": integer,
    "retries": partial(integer, minimum=0),
    "est_minutes": quantity,
}
ONLY_PHASE = "jobs"
"""The name of the phase of a spec that has no `phases`."""
_ARG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORMS = "write one of: jobs; grid with template; phases"


def parse(faults: Faults, root: MapNode) -> SpecForm:
    """Read a whole spec. What cannot be read is noted, and None or empty in the form."""
    return _Parser(faults).spec(root)


class _Parser:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._fields = Fields(faults)

    def spec(self, root: MapNode) -> SpecForm:
        own = MapNode(tuple([entry for entry in root.entries if not entry[0].text.startswith("x-")]), root.mark)
        fields, top = self._fields, self._fields.table(own, "a spec", TOP_KEYS)
        marks = {key.text: key.mark for key, _ in root.entries}
        if "hosts" in top and "ssh" in top:
            self._faults.add(marks["ssh"], "hosts and ssh cannot be used together", "keep one of them")
        slurm, slurm_manager = read_top_slurm(fields, top.get("slurm"))
        return SpecForm(
            project=self._project(top.get("project")),
            phases=self._phases(top, marks),
            cwd=fields.text(top.get("cwd"), "cwd"),
            hosts=read_hosts(fields, top.get("hosts", top.get("ssh"))),
            environment=read_environment(fields, top, marks),
            env=fields.env(top.get("env")),
            gpus=read_cards(fields, top.get("gpus")),
            max_parallel=fields.number(top.get("max_parallel"), "max_parallel", partial(integer, minimum=1)),
            gpu_free_threshold_mib=fields.number(
                top.get("gpu_free_threshold_mib"), "gpu_free_threshold_mib", partial(integer, minimum=0)
            ),
            oom_retry=self._oom_retry(top.get("oom_retry")),
            wave=fields.choice(top.get("wave"), "wave", WAVES),
            stale_after=fields.number(top.get("stale_after"), "stale_after", seconds),
            grace=fields.number(top.get("grace"), "grace", seconds),
            preconditions=read_preconditions(fields, top.get("preconditions")),
            default_cmd=fields.text(top.get("default_cmd"), "default_cmd"),
            on_complete=fields.text(top.get("on_complete"), "on_complete"),
            analyze_on_complete=fields.text(top.get("analyze_on_complete"), "analyze_on_complete"),
            pull=self._pull(top.get("pull")),
            when_done=fields.choice(top.get("when_done"), "when_done", WHEN_DONE),
            idle_after=fields.number(top.get("idle_after"), "idle_after", seconds),
            max_cost=fields.number(top.get("max_cost"), "max_cost", dollars),
            deadline=self._deadline(top.get("deadline")),
            results_to=self._results_to(top),
            metrics=read_metrics(fields, top.get("metrics")),
            health=read_health(fields, top.get("health")),
            recover=read_recover(fields, top.get("recover")),
            slurm=slurm,
            slurm_manager=slurm_manager,
            errexit=self._errexit(top.get("shell")),
            wandb=fields.switch(top.get("wandb"), "wandb", "on or off"),
            est_minutes=fields.number(top.get("est_minutes"), "est_minutes", quantity),
            launcher=fields.choice(top.get("launcher"), "launcher", OF_SPECS),
            notify=read_notify(fields, top.get("notify")),
        )

    def _project(self, node: Node | None) -> str:
        if node is None:
            self._faults.add(Mark(1, 1), "the spec has no project", "add project: NAME")
            return ""
        scalar = self._fields.text(node, "project", required=True)
        if scalar is None:
            return ""
        fault = project_fault(scalar.text)
        if fault:
            self._faults.add(scalar.mark, f"project {scalar.text!r} {fault}", "it names runs and files")
        return scalar.text

    def _plain_text(self, top: Table, key: str) -> str | None:
        scalar = self._fields.text(top.get(key), key)
        if scalar is not None and is_template(scalar.text):
            self._faults.add(scalar.mark, f"{key} is not expanded", "write it out")
        return None if scalar is None else scalar.text

    def _pull(self, node: Node | None) -> tuple[str, ...]:
        found: list[str] = []
        for scalar in self._fields.texts(node, "what is pulled"):
            if is_template(scalar.text.replace(EACH_ID, "")):
                what = f"only {EACH_ID} is expanded in pull"
                self._faults.add(scalar.mark, what, "write it out, or with *")
            elif scalar.text.startswith(("/", "~")) or ".." in scalar.text.split("/"):
                what = f"{scalar.text!r} in pull is not inside cwd"
                self._faults.add(scalar.mark, what, "write paths and globs relative to cwd, such as figures/*.png")
            elif check_path(self._faults, scalar, "a path in pull", ()):
                found += each_path(self._faults, scalar)
        return tuple(dict.fromkeys(found))

    def _deadline(self, node: Node | None) -> float | str | None:
        scalar = self._fields.text(node, "deadline")
        if scalar is not None:
            try:
                return deadline(scalar.text)
            except ValueError as error:
                self._faults.add(scalar.mark, f"deadline is {scalar.text!r}", str(error))
        return None

    def _results_to(self, top: Table) -> Scalar | None:
        scalar = self._fields.text(top.get("results_to"), "results_to")
        if scalar is not None and not any(key in top for key in TEARDOWN_KEYS):
            what = f"results_to without {listed(TEARDOWN_KEYS[:-1])} or {TEARDOWN_KEYS[-1]} does nothing"
            self._faults.add(scalar.mark, what, "add when_done: destroy, for one")
        return scalar

    def _oom_retry(self, node: Node | None) -> OomRetry | None:
        if node is None:
            return None
        table = self._fields.table(node, "oom_retry", OOM_RETRY_KEYS)
        wait = self._fields.number(table.get("delay"), "delay", delay)
        attempts = self._fields.number(table.get("max_attempts"), "max_attempts", partial(integer, minimum=1))
        default = OomRetry()
        return OomRetry(default.delay if wait is None else wait, default.max_attempts if attempts is None else attempts)

    def _phases(self, top: Table, marks: Mapping[str, Mark]) -> tuple[PhaseForm, ...]:
        forms = [key for key in ("jobs", "phases") if key in top]
        parts = [key for key in ("template", *GRID_KEYS) if key in top]
        if parts:
            forms.append(parts[0])
        if not forms:
            self._faults.add(Mark(1, 1), "the spec has no jobs", _FORMS)
            return ()
        if len(forms) > 1:
            first, *others = sorted(forms, key=lambda key: marks[key])
            for key in others:
                self._faults.add(marks[key], f"{key} cannot be used beside {first} at the top of the spec", _FORMS)
        if "phases" not in top:
            return (self._phase_of(top, marks[forms[0]], ONLY_PHASE, "a spec"),)
        node = top["phases"]
        if not isinstance(node, ListNode):
            self._faults.add(node.mark, "phases must be a list", "begin each phase with - name: NAME")
            return ()
        if not node.items:
            self._faults.add(node.mark, "the list of phases is empty", "add a phase: - name: NAME")
        phases = [phase for phase in map(self._phase, node.items) if phase is not None]
        seen: dict[str, Mark] = {}
        for phase in phases:
            if phase.name in seen:
                what = f"two phases have the name {phase.name!r}; the other is on line {seen[phase.name].line}"
                self._faults.add(phase.mark, what, "give each its own name")
            seen.setdefault(phase.name, phase.mark)
        return tuple(phases)

    def _phase(self, node: Node) -> PhaseForm | None:
        table = self._fields.table(node, "a phase", PHASE_KEYS)
        if not isinstance(node, MapNode):
            return None
        name, mark = self._phase_name(table.get("name"), node)
        return self._phase_of(table, mark, name, f"phase {name!r}")

    def _phase_name(self, node: Node | None, phase: Node) -> tuple[str, Mark]:
        if node is None:
            self._faults.add(phase.mark, "a phase has no name", "add name: NAME")
            return f"(line {phase.mark.line})", phase.mark
        scalar = self._fields.text(node, "name", required=True)
        if scalar is None:
            return f"(line {phase.mark.line})", node.mark
        fault = id_fault(scalar.text)
        if fault:
            self._faults.add(scalar.mark, f"the phase name {scalar.text!r} {fault}")
        return scalar.text, scalar.mark

    def _phase_of(self, table: Table, mark: Mark, name: str, what: str) -> PhaseForm:
        """Read a phase, or the top of a spec that is one."""
        before = len(self._faults.found)
        grid = read_grid(self._faults, table)
        is_valid = len(self._faults.found) == before
        jobs: tuple[JobForm, ...] = ()
        top = what == "a spec"
        if "jobs" in table:
            both = [] if top else [key for key in ("template", *GRID_KEYS) if key in table]
            if both:
                self._faults.add(table[both[0]].mark, f"{what} has jobs and {both[0]}", "keep one of them")
            jobs = self._jobs(table["jobs"])
            is_valid = is_valid and not both
        elif "template" in table:
            jobs = tuple(self._job(table["template"], "a template"))
        elif not (top and "phases" in table):
            has_grid = any(key in table for key in GRID_KEYS)
            hint = "add template: {id: …, cmd: …}" + ("" if has_grid else ", or jobs: a list of {id, cmd}")
            self._faults.add(mark, f"{what} has {'a grid but no template' if has_grid else 'no jobs'}", hint)
        if "match" in table and "depends_on" not in table:
            self._faults.add(table["match"].mark, "match has no effect without depends_on", "add depends_on: PHASE")
        return PhaseForm(
            name=name,
            mark=mark,
            depends_on=() if top else self._fields.texts(table.get("depends_on"), "depends_on"),
            match=() if top else self._fields.texts(table.get("match"), "match"),
            grid=grid,
            jobs=jobs,
            templated="jobs" not in table,
            env=() if top else self._fields.env(table.get("env")),
            preconditions=() if top else read_preconditions(self._fields, table.get("preconditions")),
            metrics={} if top else read_metrics(self._fields, table.get("metrics")),
            health={} if top else read_health(self._fields, table.get("health")),
            recover=None if top else read_recover(self._fields, table.get("recover")),
            slurm={} if top else read_slurm(self._fields, table.get("slurm")),
            is_valid=is_valid,
            est_minutes=None if top else self._fields.number(table.get("est_minutes"), "est_minutes", quantity),
        )

    def _jobs(self, node: Node) -> tuple[JobForm, ...]:
        if not isinstance(node, ListNode):
            self._faults.add(node.mark, "jobs must be a list", "begin each job with - id: NAME")
            return ()
        if not node.items:
            self._faults.add(node.mark, "the list of jobs is empty", "add a job: - {id: NAME, cmd: …}")
        return tuple(job for item in node.items for job in self._listed_job(item))

    def _listed_job(self, node: Node) -> Iterator[JobForm]:
        """Read a job of a list, which may be only its command."""
        if not isinstance(node, Scalar):
            yield from self._job(node, "a job")
            return
        if node.plain and number(node.text) is not None:
            self._faults.add(node.mark, f"a job is {node.text}", "write a command, or {id: NAME, cmd: …}")
            return
        for job in self._job(MapNode((), node.mark), "a job"):
            yield job._replace(cmd=self._cmd(node))

    def _job(self, node: Node, what: str) -> Iterator[JobForm]:
        """Yield the job, if it is one."""
        fields, table = self._fields, self._fields.table(node, what, JOB_KEYS)
        if not isinstance(node, MapNode):
            return
        if "expected_output" in table and "output_check" in table:
            hint = "output_check is another name for it: keep one"
            self._faults.add(table["output_check"].mark, f"{what} has expected_output and output_check", hint)
        numbers = {
            key: fields.number_or_template(table.get(key), key, read) for key, read in NUMBERS.items() if key in table
        }
        output = "expected_output" if "expected_output" in table else "output_check"
        yield JobForm(
            mark=node.mark,
            id=fields.text(table.get("id"), "id", required=True),
            cmd=self._cmd(table.get("cmd")),
            args=self._args(table.get("args")),
            expected_output=self._output(table.get(output), output),
            cwd=fields.text(table.get("cwd"), "cwd"),
            env=fields.env(table.get("env")),
            depends_on=fields.texts(table.get("depends_on"), "depends_on"),
            preconditions=read_preconditions(self._fields, table.get("preconditions")),
            numbers={key: scalar for key, scalar in numbers.items() if scalar is not None},
            metrics=read_metrics(fields, table.get("metrics")),
            health=read_health(fields, table.get("health")),
            recover=read_recover(fields, table.get("recover")),
            slurm=read_slurm(fields, table.get("slurm")),
            gpu_model=fields.texts(table.get("gpu_model"), "gpu_model"),
            errexit=self._errexit(table.get("shell")),
            wandb=fields.switch(table.get("wandb"), "wandb", "on or off"),
            given=frozenset(table),
        )

    def _output(self, node: Node | None, what: str) -> Scalar | None:
        scalar = self._fields.text(node, what)
        if scalar is None or not has_braces(scalar.text):
            return scalar
        hint = "name the file that is written last, or write a glob such as out/*.pt"
        self._faults.add(scalar.mark, f"{what} is {scalar.text[:80]!r}, whose braces name several files", hint)
        return None

    def _cmd(self, node: Node | None) -> tuple[Scalar, ...]:
        """Read the commands; none if one of them cannot be read."""
        items = node.items if isinstance(node, ListNode) else (node,)
        if isinstance(node, ListNode) and not items:
            self._faults.add(node.mark, "cmd is an empty list", "write the commands, one after the other")
        found = [self._fields.text(item, "cmd") for item in items]
        return tuple([one for one in found if one is not None]) if None not in found else ()

    def _errexit(self, node: Node | None) -> bool | None:
        if node is None:
            return None
        word = self._fields.table(node, "shell", SHELL_KEYS).get("errexit")
        return self._fields.switch(word, "errexit", "true or false")

    def _args(self, node: Node | None) -> tuple[tuple[Scalar, Node], ...] | None:
        if node is None:
            return None
        if not isinstance(node, MapNode):
            self._faults.add(node.mark, "args must be a mapping of names to values", "write args: {seed: 42}")
            return None
        found = []
        for key, value in node.entries:
            if not _ARG.fullmatch(key.text):
                bare = key.text.lstrip("-")
                hint = f"write {bare}, without dashes" if _ARG.fullmatch(bare) else "use letters, digits and _ . -"
                self._faults.add(key.mark, f"{key.text!r} cannot be the name of an arg", hint)
            elif key.text in RESERVED:
                what = f"{key.text} is filled in at launch, and cannot be an arg"
                self._faults.add(key.mark, what, "choose another name")
            else:
                found.append((key, value))
        return tuple(found)
