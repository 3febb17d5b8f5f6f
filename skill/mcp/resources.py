"""Resources: the state and the summary of each run."""

from __future__ import annotations

import re
from typing import NamedTuple

from build_manifest import regular_file
from skill.common.errors import UseError
from skill.mcp import answers
from skill.operations import list_runs, run_status
from skill.operations.find_run import find_run
from skill.runs.directory import MOST_STATE

_JSON, _MARKDOWN = "application/json", "text/markdown"
TEMPLATES = [
    ("wavequeue://runs/{run}/state", "state", "The state of a run: counts, problems, who needs a person", _JSON),
    ("wavequeue://runs/{run}/summary", "summary", "The summary of a run that has ended", _MARKDOWN),
]
_URI = re.compile(r"wavequeue://runs/([^/]+)/(state|summary)")
_NEWEST = 5


class Resource(NamedTuple):
    """One resource. `kind`: its media type."""

    uri: str
    name: str
    says: str
    kind: str


def newest() -> list[Resource]:
    """Return the resources of the newest runs; those of all others are known by their templates."""
    return [
        Resource(uri.format(run=run.id), f"{name} of {run.id}", says, kind)
        for run in list_runs.newest_first()[:_NEWEST]
        for uri, name, says, kind in TEMPLATES
    ]


def read(uri: str) -> tuple[str, str]:
    """Return the media type and the text of a resource. Raises UseError where there is none, and FailedError."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise UseError(f"there is no resource {uri}; there are: {', '.join(one[0] for one in TEMPLATES)}")
    run = find_run(match[1])
    if match[2] == "state":
        document, alive, _ = run_status.run_status(run)
        return _JSON, answers.document(run_status.as_brief(document, alive), f"status(run={run.id}, jobs=true)")
    try:
        text = regular_file.read_text(run.paths.summary, MOST_STATE, follow=False, errors="replace")
    except OSError:
        raise UseError(f"{run.id} has no summary yet: it is written when the run ends") from None
    return _MARKDOWN, answers.head(text.splitlines(), f"results(run={run.id})")
