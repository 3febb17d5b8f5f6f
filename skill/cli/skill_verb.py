"""The verb skill."""

from __future__ import annotations

import click

from skill.operations import install_skill


@click.group("skill", short_help="Install the instructions by which Claude Code uses wavequeue.")
def skill_verb() -> None:
    """Install the instructions by which Claude Code uses wavequeue."""


@skill_verb.command("install", short_help="Copy the skills to where Claude Code looks for them.")
@click.option("--project", is_flag=True, help="For the present directory only.")
def install(project: bool) -> None:
    """Copy the skills to where Claude Code looks for them: ~/.claude/skills, or .claude/skills of this directory.

    wavequeue runs experiments; wavequeue-auto supervises the search of an agent.
    """
    for file in install_skill.install_skills(project=project):
        print(f"wrote {file}")
