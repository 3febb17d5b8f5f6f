"""Read the metrics of a completed job from its files and its log, by its rules. Bounded, and never raises: what cannot
be read becomes a text that says why."""

from __future__ import annotations

import glob
import io
import json
import os
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from queue_manager.adapters import evidence, rule_process
from queue_manager.adapters.regular import open_regular, read_regular
from queue_manager.core import metric_rules, shell_paths
from queue_manager.core.log_text import plain_lines
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.metric_rules import Found, LogValues, Rule
from queue_manager.core.outputs import is_glob
from queue_manager.core.terminal_text import one_line

if TYPE_CHECKING:
    from queue_manager.core.boundary import MetricsFound

MOST_JSON = 16 << 20
MOST_CSV = 64 << 20
MOST_LOG = 256 << 20
"""Bytes of a file that are read at most; of a larger log its beginning and its end."""
MOST_RUNNING = 1 << 20
"""Bytes of a file of a job that still runs: it is read again and again."""
_END = 16 << 20
_BLOCK = 1 << 16
_LONGEST = 200


def read(
    manifest: Manifest, spec: JobSpec, cwd: str, log: Path, since_ns: int | None, environment: Mapping[str, str]
) -> MetricsFound:
    """All metrics of a job. `since_ns`: when its attempt began, by the clock of the file server; None: it did not run
    here, and what is there is taken as it is. `environment`: for `~` and `$NAME` in paths."""
    from queue_manager.core.boundary import MetricsFound  # the process of a rule does without, see rule_process

    rules = metric_rules.rules(spec.metrics)
    if not rules:
        return MetricsFound(_numbers(shell_paths.expanded(manifest, spec, environment).expected_output, cwd, since_ns))
    found: dict[str, Found] = {}
    of_log = {name: rule for name, rule in rules.items() if isinstance(rule, Rule) and rule.kind == "log"}
    in_log = {name: LogValues(rule) for name, rule in of_log.items() if metric_rules.is_simple(rule.source)}
    fault = _read_log(log, in_log) if in_log else None
    files: dict[str, Found | tuple[str, str]] = {}
    for name, rule in rules.items():
        if isinstance(rule, str):
            found[name] = rule
        elif name in in_log:
            found[name] = fault or in_log[name].found()
        elif name in of_log:
            found[name] = rule_process.found(rule, log)
        else:
            source = shell_paths.path_of(manifest, spec, rule.source, environment)
            if source not in files:
                files[source] = _file(source, cwd, since_ns)
            found[name] = _of_file(rule, files[source])
    numbers = {name: value if isinstance(value, float) else None for name, value in found.items()}
    errors = {name: one_line(value, _LONGEST) for name, value in found.items() if isinstance(value, str)}
    return MetricsFound(numbers, errors)


def main() -> None:
    """Apply the rule on stdin to a log, and print the number that it finds, or why there is none; see rule_process."""
    asked = json.load(sys.stdin)
    values = LogValues(Rule(*asked["rule"]))
    fault = _read_log(Path(asked["log"]), {"": values})
    json.dump(fault or values.found(), sys.stdout)


class FileMetric:
    """A metric in a file that a running job writes again and again."""

    KEPT = ("_mark",)

    def __init__(self, rule: Rule, source: str, cwd: str) -> None:
        self._rule, self._source, self._cwd = rule, source, cwd
        self._mark: tuple[str, int, int] | None = None

    @classmethod
    def of(
        cls, manifest: Manifest, spec: JobSpec, cwd: str, environment: Mapping[str, str], wanted: Container[str]
    ) -> dict[str, FileMetric]:
        """Those of some metrics of a job that are in files."""
        rules = metric_rules.rules(spec.metrics)
        return {
            name: cls(rule, shell_paths.path_of(manifest, spec, rule.source, environment), cwd)
            for name, rule in rules.items()
            if name in wanted and isinstance(rule, Rule) and rule.kind != "log"
        }

    def news(self, since_ns: int | None) -> float | None:
        """The number, if the file was written since the last time that this was asked, and since `since_ns`."""
        place = _file(self._source, self._cwd, since_ns)
        if not isinstance(place, tuple):
            return None
        try:
            status = os.stat(place[0])
        except OSError:
            return None
        mark = (place[0], status.st_mtime_ns, status.st_size)
        if mark == self._mark or status.st_size > MOST_RUNNING:
            return None
        found = _of_file(self._rule, place)
        if not isinstance(found, float):  # it may be half written
            return None
        self._mark = mark
        return found


def _numbers(output: str | None, cwd: str, since_ns: int | None) -> dict[str, float | None]:
    """The numbers of a JSON output."""
    place = _file(output or "", cwd, since_ns)
    if not isinstance(place, tuple):
        return {}
    try:
        data = json.loads(read_regular(Path(place[0]), MOST_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return dict(metric_rules.numbers(data))


def _file(source: str, cwd: str, since_ns: int | None) -> tuple[str, str] | str:
    """The newest file of a path or glob, as it is and as a person would call it; or why there is none."""
    if since_ns is not None:
        output = evidence.find_output(source, cwd, since_ns)
        if output.path is not None and not output.fresh:
            return f"{_shown(output.path, cwd)} has not changed since the job began: it is from before"
        path = output.path
    else:
        there = glob.glob(os.path.join(glob.escape(cwd), source), recursive=True) if is_glob(source) else [source]
        paths = [path for one in there if os.path.exists(path := os.path.join(cwd, one))]
        path = max(paths, key=os.path.getmtime, default=None)
    return f"{source} does not exist" if path is None else (path, _shown(path, cwd))


def _shown(path: str, cwd: str) -> str:
    short = os.path.relpath(path, cwd)
    return path if short.startswith("..") else short


def _of_file(rule: Rule, place: Found | tuple[str, str]) -> Found:
    if not isinstance(place, tuple):
        return place
    path, shown = place
    try:
        if rule.kind == "json":
            found = metric_rules.from_json(json.loads(read_regular(Path(path), MOST_JSON)), rule.field)
        else:
            data = io.TextIOWrapper(io.BytesIO(read_regular(Path(path), MOST_CSV)), "utf-8", "replace", newline="")
            found = metric_rules.from_csv(data, rule.field, rule.take)
    except OSError as error:
        return f"{shown} cannot be read: {error.strerror}"
    except ValueError as error:
        return f"{shown} is not JSON: {error}"
    except RecursionError:
        return f"{shown} is nested too deep"
    return f"{shown} {found}" if isinstance(found, str) else found


def _read_log(path: Path, values: Mapping[str, LogValues]) -> str | None:
    """Go through a log once. Returns why that cannot be done."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            whole = size <= MOST_LOG
            for start, end in [(0, size)] if whole else [(0, _END), (size - _END, size)]:
                file.seek(start)
                if start:
                    for one in values.values():
                        one.values.leave_gap()
                for line in _lines(file.read, end - start):
                    for one in values.values():
                        one.take(line)
    except OSError as error:
        return f"the log cannot be read: {error.strerror}"
    return None


def _lines(read_some: Callable[[int], bytes], left: int) -> Iterator[str]:
    """The lines of so many bytes, read in blocks; `\\r` ends a line as well."""
    rest = b""
    while left > 0:
        data = read_some(min(_BLOCK, left))
        if not data:
            break
        left -= len(data)
        data = rest + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not end and len(data) > 16 * _BLOCK:
            end = len(data)
        rest = data[end:]
        yield from plain_lines(data[:end])
    if rest:
        yield from plain_lines(rest)
