"""The ids of jobs that have none: the phase's name with the keys that vary and their values, `distill_N384_seed42`;
where a job is a command and nothing else, the words of the command, `train_lr1e-3_seed0`."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from build_manifest.faults import Faults
from build_manifest.forms import JobForm, PhaseForm
from build_manifest.names import is_template
from build_manifest.nodes import Scalar
from queue_manager.core.layout import ID_MAX

_OPTION = re.compile(r"-{1,2}([A-Za-z][\w.-]*)=?")
_PROGRAMS = re.compile(r"(?:.*/)?(?:python[0-9.]*|bash|sh|env)")
_ENDINGS = re.compile(r"\.(?:py|sh)$")
_LONGEST = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+,@-]+")


def with_ids(faults: Faults, form: PhaseForm) -> PhaseForm:
    """Return the phase with an id for each job that has none. Notes a fault if none can be made."""
    lacking = [number for number, job in enumerate(form.jobs) if job.id is None and "id" not in job.given]
    if not lacking:
        return form
    jobs = list(form.jobs)
    commands = [number for number in lacking if not jobs[number].given and jobs[number].cmd]
    for number, made in zip(commands, of_commands([jobs[number].cmd[0].text for number in commands])):
        jobs[number] = _named(jobs[number], made)
    lacking = [number for number in lacking if number not in set(commands)]
    if form.templated:
        varying = _varying(form)
        text = "_".join([form.name, *(f"{key}${{{key}}}" for key in varying)])
        jobs[0] = _named(jobs[0], text, _apart(varying.values()))
        return form._replace(jobs=tuple(jobs))
    ids = _by_args(form, [jobs[number] for number in lacking])
    for number, name in zip(lacking, ids):
        if name is None:
            hint = "add id: NAME (a default id needs args that differ and are written out)"
            faults.add(jobs[number].mark, f"the job on line {jobs[number].mark.line} has no id", hint)
        else:
            jobs[number] = _named(jobs[number], name)
    return form._replace(jobs=tuple(jobs))


def of_commands(commands: Sequence[str]) -> list[str]:
    """Make an id for each command from its own words, so that it stays the same when others are added or removed. Equal
    commands have equal ids."""
    names = [_of_command(command) for command in commands]
    meant: dict[str, set[str]] = {}
    for name, command in zip(names, commands):
        meant.setdefault(name, set()).add(command)
    return [name if len(meant[name]) == 1 else _marked(name, command) for name, command in zip(names, commands)]


def _of_command(command: str) -> str:
    parts: list[str] = []
    joined = False
    for word in command.replace("'", " ").replace('"', " ").split():
        option = _OPTION.match(word)
        text = safe(_ENDINGS.sub("", (option[1] + word[option.end() :]) if option else word)).strip("-")
        if not text or _PROGRAMS.fullmatch(word) or (option and not parts):
            continue
        if joined and not option:
            parts[-1] += text
        else:
            parts.append(text)
        joined = bool(option) and "=" not in word
    name = "_".join(parts).lstrip(".=+,@-") or "job"
    return name if len(name) <= _LONGEST else _marked(name, command)


def _marked(name: str, command: str) -> str:
    return f"{name[: _LONGEST - 9]}_{hashlib.sha256(command.encode()).hexdigest()[:8]}"


def safe(value: str) -> str:
    """Make a value fit to be part of an id."""
    return _UNSAFE.sub("-", value)


def _apart(values: Iterable[Collection[str]]) -> Callable[[str], str]:
    """How values are parts of ids. `values`: those of each key. Where nothing is left of two of a key, as of texts in
    other letters, a checksum tells them apart."""
    same: set[str] = set()
    for texts in values:
        parts = Counter(map(safe, texts))
        same.update(
            text for text in texts if parts[safe(text)] > 1 and text != safe(text) and safe(text).strip("-") == ""
        )
    return lambda text: _marked(safe(text), text) if text in same else safe(text)


def _named(job: JobForm, text: str, part: Callable[[str], str] = safe) -> JobForm:
    return job._replace(id=Scalar(text, False, job.mark, 0, 0), default_id=part)


def _varying(form: PhaseForm) -> dict[str, set[str]]:
    """Find the keys of a grid that have several values, with those."""
    grid = form.grid
    values: dict[str, set[str]] = {name: set() for name in grid.names}
    entries = [*grid.product, *grid.zipped, *(one for entry in grid.includes for one in entry.keys)]
    for one in entries:
        if one.key in values:
            values[one.key].update(value.text for value in one.values)
    return {name: found for name, found in values.items() if len(found) > 1}


def _by_args(form: PhaseForm, jobs: Sequence[JobForm]) -> list[str | None]:
    """Make ids by the args that differ; None if jobs do not differ, or their values are not known yet."""
    args = [{key.text: _text(value) for key, value in job.args or ()} for job in jobs]
    keys = list(dict.fromkeys(key for one in args for key in one))
    varying = [key for key in keys if len({one.get(key) for one in args}) > 1]
    if len(jobs) == 1:
        return [form.name if len(form.jobs) == 1 else None]
    names: list[str | None] = []
    for one in args:
        known = [(key, one[key]) for key in varying if key in one]
        if not known or any(value is None for _, value in known):
            names.append(None)
        else:
            names.append("_".join([form.name, *(f"{safe(key)}{safe(value or '')}" for key, value in known)])[:ID_MAX])
    return [name if names.count(name) == 1 else None for name in names]


def _text(node: object) -> str | None:
    if isinstance(node, Scalar):
        return None if is_template(node.text) else node.text
    items = getattr(node, "items", None)
    texts = [_text(item) for item in items] if isinstance(items, tuple) else [None]
    return None if None in texts else "-".join([text for text in texts if text is not None])
