"""A spec that is made of commands on the command line, of a file of commands or of a table: its text. Pure.

It is YAML as a person would write it, and is built as any other spec.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from build_manifest.default_ids import safe
from build_manifest.faults import Fault, SpecErrors, listed
from build_manifest.ranges import from_text
from build_manifest.values import NULLS, SPOKEN
from queue_manager.core.layout import id_fault

EACH_ID = "id"
"""What stands for the job's id in `{id}`."""
_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[A-Za-z_][A-Za-z0-9_.-]*")
_BRACES = re.compile(r"\$\{|\{\{([A-Za-z_][\w.-]*)\}\}|\{[{%]|\{([A-Za-z_][\w.-]*)\}")
_LITERAL = {"${": "$${", "{{": "{{ '{{' | raw }}", "{%": "{{ '{%' | raw }}"}
_PROGRAM = re.compile(r"(.+)\.(?:py|sh|bash|R|jl|pl|lua|txt)")
_INTERPRETERS = frozenset({"bash", "env", "exec", "julia", "nohup", "python", "python3", "Rscript", "sh", "time"})


class JobOptions(NamedTuple):
    """What the command line says of every job, as it was typed; None where it does not."""

    id: str | None = None
    gpus: int | None = None
    gpu_mem_mib: int | None = None
    expected_output: str | None = None


NOTHING_SAID = JobOptions()


class WrittenSpec(NamedTuple):
    """A spec as text. `built`: what is built, which may have its jobs on the lines where their source has them;
    `saved`: the same for people to read and change; `jobs`: how many there are."""

    built: str
    saved: str
    jobs: int


def project_name(words: str) -> str:
    """Any words, made the name of a project."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words).strip("._-")[:60] or "experiment"


def phase_name(words: Sequence[str]) -> str:
    """What a command is called: its script or module, else its program."""
    scripts = [match[1] for word in words if (match := _PROGRAM.fullmatch(word.rsplit("/", 1)[-1]))]
    if not scripts and "-m" in words[:-1]:
        scripts = [words[words.index("-m") + 1]]
    programs = [word.rsplit("/", 1)[-1] for word in words if "=" not in word and not word.startswith("-")]
    named = [word for word in programs if word not in _INTERPRETERS] or programs
    name = safe((scripts or named or ["jobs"])[0])[:60]
    return "jobs" if id_fault(name) else name


def literal(text: str) -> str:
    """A text as a spec writes it, so that nothing in it is replaced."""
    return re.sub(r"\$\{|\{\{|\{%", lambda match: _LITERAL[match[0]], text)


def with_names(text: str, known: Collection[str], where: str, source: str = "") -> str:
    """A text with `{name}` as a spec writes it; `{{name}}` stays `{name}`. `where`: what the text is, for messages;
    `source`: the file whose columns are known. Raises SpecErrors where a name is unknown."""
    unknown: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        if match[1] is not None:
            return f"{{{match[1]}}}"
        if match[2] is None:
            return _LITERAL[match[0]]
        if match[2] not in known and match[2] != EACH_ID:
            unknown.append(match[2])
        return f"${{{match[2]}}}"

    made = _BRACES.sub(replaced, text)
    if unknown and source:
        what = f"{where} has {{{unknown[0]}}}, but there is no column {unknown[0]!r}"
        hint = f"the columns are: {listed(known)}; {{{{x}}}} stays {{x}}"
        raise SpecErrors([Fault(source, 1, 1, what, hint)])
    if unknown:
        hint = f"there are: {listed(known)}" if known else "write a list in the command, such as --seed 0..4"
        raise SpecErrors([Fault(where, 0, 0, f"no list of the command has the name {unknown[0]!r}", hint)])
    return made


def names_in(text: str) -> list[str]:
    """The names in braces of a text, in their order."""
    return list(dict.fromkeys(match[2] for match in _BRACES.finditer(text) if match[2] is not None))


def value(text: str) -> str:
    """One value of a grid, quoted where YAML or a range would read something else."""
    plain = _PLAIN.fullmatch(text) and text not in SPOKEN and text not in NULLS
    return text if plain else quoted(text)


def quoted(text: str) -> str:
    """A text in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def job_lines(options: JobOptions, names: Collection[str], source: str = "") -> dict[str, str]:
    """The keys of a template or job that the options say, with their values as YAML. Raises SpecErrors."""
    found: dict[str, str] = {}
    if options.id is not None:
        found["id"] = quoted(with_names(options.id, names, "--id", source))
    if options.expected_output is not None:
        found["expected_output"] = quoted(with_names(options.expected_output, names, "--output", source))
    if options.gpus is not None:
        found["gpus"] = str(options.gpus)
    if options.gpu_mem_mib is not None:
        found["gpu_mem_mib"] = str(options.gpu_mem_mib)
    return found


def templated(
    project: str, phase: str, axes: tuple[str, Mapping[str, Sequence[str]]], template: Mapping[str, str], source: str
) -> WrittenSpec:
    """A spec of one phase with a template. `axes`: `grid` or `zip`, and the values by key, as YAML has them."""
    kind, values = axes
    lines = [*_head(project, source), "phases:", f"  - name: {value(phase)}"]
    if values:
        lines.append(f"    {kind}:")
        lines += [f"      {key}: {_values(texts)}" for key, texts in values.items()]
    lines.append("    template:")
    lines += [f"      {key}: {text}" for key, text in template.items()]
    text = "\n".join(lines) + "\n"
    sizes = [sum(len(from_text(one) or [one]) for one in texts) for texts in values.values()]
    return WrittenSpec(text, text, math.prod(sizes) if kind == "grid" else max(sizes, default=1))


def listed_jobs(project: str, phase: str, jobs: Iterable[tuple[int, Mapping[str, str]]], source: str) -> WrittenSpec:
    """A spec with a list of jobs, each with the line where its source has it."""
    rows = [(line, ", ".join(f"{key}: {text}" for key, text in job.items())) for line, job in jobs]
    saved = [*_head(project, source), "phases:", f"  - name: {value(phase)}", "    jobs:"]
    saved += [f"      - {{{row}}}" for _, row in rows]
    built = [f"phases: [{{name: {value(phase)}, jobs: ["]
    for line, row in rows:
        built += [""] * (line - len(built))
        built[-1] += f" {{{row}}},"
    built += [" ]}]", f"project: {value(project)}"]
    return WrittenSpec("\n".join(built) + "\n", "\n".join(saved) + "\n", len(rows))


def _head(project: str, source: str) -> list[str]:
    origin = " ".join(source.split())
    return [f"# Made by: {origin}", f"project: {value(project)}"]


def _values(texts: Sequence[str]) -> str:
    if len(texts) == 1 and not texts[0].startswith('"'):
        return texts[0]
    return f"[{', '.join(texts)}]"
