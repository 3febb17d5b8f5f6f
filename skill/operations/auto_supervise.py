"""Hand a campaign to an agent that a person talks to: what it has to know, and the command that starts it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from skill.auto import config_file, store, tables
from skill.auto.layout import WorkDir
from skill.common import files, shipped, typed_json
from skill.common.errors import UseError
from skill.operations import auto_init
from skill.operations.auto_init import Wanted


class Supervisor(NamedTuple):
    """The command of an interactive agent; its last word is the prompt."""

    command: tuple[str, ...]

    @property
    def prompt(self) -> str:
        return self.command[-1]


def supervisor(root: Path, directory: Path, agent: tuple[str, ...]) -> Supervisor:
    """What to start for a work directory. `directory`: of the program, where the campaign has not begun; `agent`: its
    command without a prompt. Raises UseError where it is not found, or the directory cannot have a campaign."""
    found = shutil.which(agent[0]) if agent else None
    if found is None:
        raise UseError(
            f"the agent {agent[0] if agent else ''!r} was not found; install it, or name another with --agent"
        )
    return Supervisor((found, *agent[1:], prompt(root, directory)))


def prompt(root: Path, directory: Path) -> str:
    """The instructions, and what is known and missing. Raises UseError, FailedError."""
    _, _, instructions = files.read_text(shipped.AUTO_SKILL).split("---\n", 2)
    work = WorkDir.at(root)
    known = _begun(work) if work.config.exists() or work.journal.exists() else _not_begun(work, directory)
    return f"{instructions.strip()}\n\n# This campaign\n\nIts work directory is {work.root}.\n\n{known}\n"


def _begun(work: WorkDir) -> str:
    """A campaign that can be run, from its directory alone."""
    if not work.journal.exists():
        config_file.read(work)
        raise UseError(f"{work.root} has a config.json and no journal; begin it anew with: wavequeue auto init")
    campaign, _ = store.load(work)
    known = json.dumps(typed_json.plain(campaign.config), indent=2, ensure_ascii=False)
    return (
        f"It has begun: steps 1 and 2 are done. {tables.standing(campaign)}\n"
        f"Continue with step 3 if it is not finished, else with step 6.\n\nIts configuration:\n\n```json\n{known}\n```"
    )


def _not_begun(work: WorkDir, directory: Path) -> str:
    """What is known of a program, and what is missing."""
    wanted = Wanted(directory)
    found, layout = auto_init.look(wanted)
    lines = [f"It has not begun. The program is in {directory.resolve()}, in the git repository {found.root}."]
    if layout is not None:
        lines.append(
            f"Its layout is that of karpathy/autoresearch: `{layout.command}`, {layout.metric} ({layout.goal}), "
            f"{', '.join(layout.editable)} may be edited, {', '.join(layout.protected)} may not."
        )
    missing = [f"- {one.ask} ({one.option})" for one in auto_init.questions(wanted, layout)]
    lines += ["", "Missing:", "", *missing, "- When does it end? (--max-nodes, --for, --patience, --target, --max-usd)"]
    lines += ["", f"Then: wavequeue auto init {work.root} --dir {directory} ..."]
    return "\n".join(lines)
