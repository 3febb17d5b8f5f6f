"""Read and write config.json, and find everything that is wrong with it at once. No git, agent or queue is asked."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union

from build_manifest.faults import listed, nearest
from skill.auto.config import Config, Settings
from skill.auto.layout import WorkDir
from skill.common import files, typed_json
from skill.common.errors import UseError

_MOST = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_SETTING = re.compile(r"[A-Za-z_]\w*")
_PLACE = re.compile(r"(?<!\$)\$\{(\w+)\}")
GIVEN = ("seed", "GPU", "id")
"""Names that a command may use, and that settings may not have."""
LEAST_BASELINE = 3


def read(work: WorkDir) -> Config:
    """Read the configuration of a work directory. Raises UseError that lists all faults."""
    try:
        text = files.read_text(work.config, _MOST)
    except FileNotFoundError:
        raise UseError(f"{work.root} has no config.json; make it with: wavequeue auto init {work.root}") from None
    try:
        document = typed_json.decode(text, _MOST)
        unknown = list(_unknown(document, Config, ""))
        config = typed_json.into(document, Config)
    except typed_json.DocumentError as error:
        raise UseError(f"{work.config}: {error}") from None
    raise_faults(str(work.config), [*unknown, *faults(config)])
    return config


def write(work: WorkDir, config: Config) -> None:
    """Write the configuration, for a person to read and to change. Raises OSError."""
    files.make_directory(work.root)
    files.write_whole(work.config, typed_json.pretty(typed_json.plain(config)), mode=None)


def raise_faults(what: str, found: list[str]) -> None:
    """Raise UseError with all faults, if there are any."""
    if len(found) == 1:
        raise UseError(f"{what}: {found[0]}")
    if found:
        raise UseError(
            f"{what}: {len(found)} faults, and nothing was written:\n" + "\n".join(f"  {one}" for one in found)
        )


def faults(config: Config) -> list[str]:
    """Return the faults of a configuration, each a line that says what to do."""
    return [*_of_names(config), *_of_command(config), *_of_scope(config), *_of_numbers(config), *_of_budget(config)]


def _of_names(config: Config) -> Iterator[str]:
    if not _NAME.fullmatch(config.name) or config.name.endswith((".", ".lock")) or ".." in config.name:
        yield f"name {config.name!r} cannot be part of a branch; use letters, digits, . _ -"
    if not Path(config.repo).is_absolute():
        yield f"repo {config.repo!r} is not an absolute path"
    known = listed(list(config.metrics)) if config.metrics else "none; add a rule to metrics"
    for what, metric in (("objective", config.objective.metric), *(("guards", one.metric) for one in config.guards)):
        if metric not in config.metrics:
            yield f"{what}: no rule reads {metric!r}; metrics with a rule: {known}"
    for guard in config.guards:
        if guard.max is None and guard.min is None:
            yield f"guards: {guard.metric} has neither max nor min; give one"


def _of_command(config: Config) -> Iterator[str]:
    launch = config.launch
    if not launch.command.strip():
        yield "launch.command is empty; write how the program is run"
    settings = launch.settings
    for name in settings:
        if not _SETTING.fullmatch(name) or name in GIVEN:
            yield f"launch.settings: {name!r} cannot be a setting; use letters, digits and _, not seed or GPU"
    places = list(dict.fromkeys(_PLACE.findall(launch.command)))
    for place in places:
        if place not in settings and place not in GIVEN:
            yield f"launch.command uses ${{{place}}}, which launch.settings does not give"
    for name in settings:
        if name not in places:
            yield f"launch.settings: {name} has no effect; write ${{{name}}} where launch.command uses it"
    for declared in config.declared:
        yield from _of_settings(f"declared {declared.title!r}", declared.settings, settings)
        if declared.edit and not config.scope.editable:
            yield f"declared {declared.title!r} edits code, and scope.editable is empty"
    if not settings and not config.scope.editable:
        yield "the agent may change nothing; give launch.settings, or files in scope.editable"


def _of_settings(what: str, given: Settings, known: Settings) -> Iterator[str]:
    for name in given:
        if name not in known:
            close = nearest(name, list(known))
            yield f"{what}: there is no setting {name}" + (f"; did you mean {close}?" if close else "")


def _of_scope(config: Config) -> Iterator[str]:
    scope = config.scope
    if both := [glob for glob in scope.editable if glob in scope.protected]:
        yield f"scope: {', '.join(both)} is editable and protected; choose one"
    for glob in (*scope.editable, *scope.protected):
        if glob.startswith("/") or ".." in glob.split("/"):
            yield f"scope: {glob!r} has to be relative to the repository"
    if Path(config.subdir).is_absolute() or ".." in Path(config.subdir).parts:
        yield f"subdir {config.subdir!r} has to be relative to the repository"


def _of_numbers(config: Config) -> Iterator[str]:
    limits, noise, agent = config.limits, config.noise, config.agent
    if not agent.cmd:
        yield "agent.cmd is empty; name the agent's command"
    if noise.baseline < LEAST_BASELINE:
        yield f"noise.baseline is {noise.baseline}; fewer than {LEAST_BASELINE} runs say nothing of the noise"
    counts = ("max_nodes", "max_rounds", "patience", "no_novel")
    amounts = ("max_usd", "max_gpu_usd", "max_agent_usd")
    table = (
        ("noise.confirm", noise.confirm, 2),
        ("noise.z", noise.z, 0),
        ("objective.min_delta", config.objective.min_delta, 0),
        ("scope.max_lines", config.scope.max_lines, 1),
        ("per_round", config.per_round, 1),
        ("agent.parallel", agent.parallel, 1),
        ("agent.timeout", agent.timeout, 1),
        ("agent.backoff", agent.backoff, 0),
        ("agent.usd_per_call", agent.usd_per_call, 0),
        ("gpu_usd_per_hour", config.gpu_usd_per_hour, 0),
        ("job_minutes", config.job_minutes, 0),
        ("lost_after", config.lost_after, 0),
        *((f"limits.{name}", getattr(limits, name), 1) for name in counts),
        *((f"limits.{name}", getattr(limits, name), 0) for name in amounts),
    )
    for name, value, least in table:
        if value is not None and (value < least or not math.isfinite(value)):
            yield f"{name} is {value:g}, and has to be at least {least}"
    if config.time_budget and "gpu_mem_mib" in config.job:
        yield "job.gpu_mem_mib shares a GPU, and with time_budget that would change results; remove one of them"
    if all(getattr(limits, one.name) is None for one in dataclasses.fields(limits) if one.name != "no_novel"):
        yield "limits: nothing ends this campaign; give max_nodes, max_rounds, patience, target, deadline or max_usd"


def _of_budget(config: Config) -> Iterator[str]:
    """Find a budget that does not pay for the baseline."""
    price = baseline_usd(config)
    for name in ("max_usd", "max_gpu_usd"):
        most = getattr(config.limits, name)
        if price is not None and most is not None and most < price:
            runs = f"{config.noise.baseline} runs of {config.job_minutes:g} min at ${config.gpu_usd_per_hour:g}/h"
            yield f"limits.{name} is ${most:.2f}, and the baseline alone costs ${price:.2f} ({runs})"


def baseline_usd(config: Config) -> float | None:
    """Return the cost of the baseline's runs in USD; None where their price or duration is unknown."""
    if config.gpu_usd_per_hour is None or config.job_minutes is None:
        return None
    return config.noise.baseline * config.gpu_usd_per_hour * config.job_minutes / 60


def _unknown(document: Any, kind: Any, where: str) -> Iterator[str]:
    """Yield a fault for each key that the type does not have, with the nearest known one."""
    kind = _inner(kind)
    if typing.get_origin(kind) is tuple and isinstance(document, list):
        for number, one in enumerate(document):
            yield from _unknown(one, typing.get_args(kind)[0], f"{where}[{number}]")
    if not dataclasses.is_dataclass(kind) or not isinstance(document, Mapping):
        return
    hints = typing.get_type_hints(kind)
    for key, value in document.items():
        inside = f"{where}.{key}" if where else key
        if key not in hints:
            close = nearest(key, list(hints))
            yield f"unknown key {inside}; " + (
                f"did you mean {close}?" if close else f"keys here: {listed(list(hints))}"
            )
        else:
            yield from _unknown(value, hints[key], inside)


def _inner(kind: Any) -> Any:
    """The type of `X | None`."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        rest = [one for one in typing.get_args(kind) if one is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind
