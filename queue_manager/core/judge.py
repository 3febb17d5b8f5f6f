"""Judge an attempt of which neither process nor session is left: the job's new status, and why."""

from __future__ import annotations

from typing import NamedTuple

from queue_manager.core import failures
from queue_manager.core.boundary import Ended, ExitRecord, Output
from queue_manager.core.failures import FailureClass, Rule
from queue_manager.core.manifest import JobSpec
from queue_manager.core.memory import WORDS, Memory, of_line
from queue_manager.core.outputs import shown
from queue_manager.core.status import Outcome

_SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE",
    15: "SIGTERM",
}  # fmt: skip


_PIPE = 141
"""The exit code under `pipefail` of a pipe whose last command succeeded while an earlier one got SIGPIPE: `yes | head
-1`."""


_ASKED_TO_END = (129, 143)
"""Exit codes of a job that HUP or TERM has ended."""


class Verdict(NamedTuple):
    """How an attempt ended. `failure`: the name of its class, None for a success; `rule`: what follows; `memory`: which
    it ran out of, if it did."""

    outcome: Outcome
    failure: str | None = None
    rule: Rule | None = None
    error: str | None = None
    warning: str | None = None
    memory: Memory | None = None


def judge(
    spec: JobSpec,
    stop_reason: str | None,
    exit_record: ExitRecord | None,
    ended: Ended,
    grace: float = 10.0,
    flags: str = "",
) -> Verdict:
    """Judge one attempt.

    `grace`: seconds that it had between TERM and KILL. `flags`: what was wrong with it, where it was stopped for that.
    `stop_reason`: why the manager stopped it, if it did. `exit_record` is None where the wrapper was killed as well. An
    output counts only if it is newer than the attempt's start. With it, an exit code other than 0 is a warning, unless
    another job may have written the file.
    """
    code = exit_record.code if exit_record else None
    output = ended.output
    # A job that was asked to end reports a signal; exit code 0 means that it had finished before.
    if code == 0 and (output is None or output.fresh):
        return Verdict(Outcome.SUCCEEDED, warning=_asked_to_end(spec, stop_reason, ended.warned and output is None))
    if stop_reason == "cancelled":
        return Verdict(Outcome.CANCELLED, error="cancelled by a person")
    if stop_reason == "bound":  # what it has written so far is not a result; the attempt does not count
        return Verdict(Outcome.INTERRUPTED, "interrupted", error="stopped: the run has reached its limit")
    if stop_reason == "early_stop":
        return Verdict(Outcome.SUCCEEDED, warning=_no_output_yet(spec, output))
    if stop_reason == "unhealthy":
        error = f"stopped because it was unhealthy: {flags}"
        return Verdict(Outcome.FAILED, failures.UNHEALTHY.name, failures.UNHEALTHY.rule, error)
    if stop_reason == "recover":
        return Verdict(
            Outcome.FAILED, flags.partition(":")[0], Rule.RETRIES, f"stopped because it was unhealthy: {flags}"
        )
    if stop_reason == "timeout":
        return _failed(failures.TIMEOUT, _timed_out(spec, code, grace), ended)
    if ended.limit:  # what it has written so far is not a result
        return _failed(failures.TIMEOUT, "Slurm ended it at its time limit", ended)
    how = _how(code, stop_reason, grace)
    if code == 0:
        return _failed(failures.NO_OUTPUT, _missing(spec, ended), ended)
    if output is not None and output.fresh and not output.shared:
        return Verdict(Outcome.SUCCEEDED, warning=f"{how}, but its output {output.path} exists")
    if stop_reason in ("closed", "stale"):
        return _failed(failures.KILLED, how, ended)
    killed = code is None or code in failures.SIGKILL_CODES
    finding = ended.finding
    if finding is not None and killed and failures.rule_of(finding.name) is Rule.RETRIES:
        finding = None  # whatever it printed before, a signal ended it
    if ended.oom_kill and (killed or (finding is not None and finding.name == "killed")):
        error = f"{WORDS[Memory.HOST]}: the kernel's OOM killer ended it"
        return _failed(failures.HOST_OOM, error, ended)._replace(memory=Memory.HOST)
    if finding is not None:
        return _found(finding, how, _has_gpu(spec))
    if killed:
        error = how if code is None and ended.cause is None else f"{how}: {ended.cause or 'killed from outside'}"
        return Verdict(Outcome.FAILED, failures.KILLED.name, failures.KILLED.rule, error)
    if ended.cause is not None and code in _ASKED_TO_END:
        return _failed(failures.KILLED, f"{how}: {ended.cause}", ended)
    return _failed(failures.EXIT_CODE, how, ended)


_TITLES = {
    "sick_card": "faulty GPU",
    "disk_full": "disk full",
    "arguments": "wrong arguments",
    "killed": "one of its processes was killed",
}
"""Classes that are named beside the log line; the lines of the others name the failure themselves."""


def _has_gpu(spec: JobSpec) -> bool:
    """Whether a job has a GPU: Slurm's are not among its `gpus`."""
    asked = spec.slurm or {}
    return spec.gpus > 0 or "gres" in asked or any("gpu" in word for word in asked.get("extra", ()))


def _found(finding: failures.LogFinding, how: str, has_gpu: bool) -> Verdict:
    """Return a failure by what its log shows."""
    name = failures.EXIT_CODE.name if finding.name == "traceback" else finding.name
    memory = of_line(finding.line, has_gpu) if name == failures.HOST_OOM.name else None
    what = WORDS[memory] if memory is not None else _TITLES.get(name)
    title = how if what is None else f"{what} ({how})"
    return Verdict(Outcome.FAILED, name, failures.rule_of(name), f"{title}: {finding.line}", memory=memory)


def _failed(row: FailureClass, error: str, ended: Ended) -> Verdict:
    if ended.last_line:
        error = f"{error}; last line: {ended.last_line}"
    return Verdict(Outcome.FAILED, row.name, row.rule, error)


def _timed_out(spec: JobSpec, code: int | None, grace: float) -> str:
    killed = ", then it was killed" if code is None or code in failures.SIGKILL_CODES else ""
    return f"stopped by its timeout after {span(spec.timeout or 0.0)}; had {span(grace)} to save{killed}"


def span(seconds: float) -> str:
    """Format seconds as in a spec: 0.5 s, 90 s, 5 min, 2 h."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0 and seconds >= (size if unit != "min" else 2 * size):
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _no_output_yet(spec: JobSpec, output: Output | None) -> str | None:
    if output is None or output.fresh:
        return None
    return f"stopped early, before {shown(spec.expected_output or '')} was written"


def _asked_to_end(spec: JobSpec, stop_reason: str | None, warned: bool) -> str | None:
    """Warn that an attempt which succeeded may only have saved its work, because it was asked to end."""
    why = {
        "cancelled": "a person cancelled it",
        "timeout": f"its timeout of {span(spec.timeout or 0.0)} was over",
        "unhealthy": "it was unhealthy",
        "recover": "it was unhealthy",
    }.get(stop_reason or "")
    if why is None and warned:
        why = "its time limit was near"
    if why is None:
        return None
    return f"{why}, and it ended with exit code 0 when it was told to end: it may not be done"


def _how(code: int | None, stop_reason: str | None, grace: float) -> str:
    if stop_reason == "stale":
        return "was idle after writing its output, and was stopped"
    if stop_reason == "closed":
        return f"its session was closed, which stopped it; had {span(grace)} to save"
    if code is None:
        return "was killed together with its wrapper"
    if code == _PIPE:
        return f"exit code {code} (SIGPIPE: a command in a pipe wrote after its reader, such as head, had ended)"
    if code > 128 and code - 128 in _SIGNALS:
        return f"exit code {code} ({_SIGNALS[code - 128]})"
    return f"exit code {code}"


def _missing(spec: JobSpec, ended: Ended) -> str:
    if ended.output is not None and ended.output.path is not None:
        return (
            f"exit code 0, but {ended.output.path} was not modified after the job started: it is "
            "left over from before, or kept an earlier modification time (cp -p, tar, rsync -t; then touch it)"
        )
    if ended.output is not None and ended.output.unreadable is not None:
        return f"exit code 0, but {shown(spec.expected_output or '')} cannot be read ({ended.output.unreadable})"
    return f"exit code 0, but {shown(spec.expected_output or '')} does not exist"
