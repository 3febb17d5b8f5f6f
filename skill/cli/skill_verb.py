"""The verb skill."""

from __future__ import annotations

import click

from skill.operations import install_skill


@click.group("skill", short_help="Install the instructions by which Claude Code uses wavequeue.")
def skill_verb() -> None:
    """Install the instructions by which Claude Code uses wavequeue."""


@skill_verb.command("install", short_help="Copy SKILL.md to where Claude Code looks for it.")
@click.option("--project", is_flag=True, help="For the present directory only.")
def install(project: bool) -> None:
    """Copy SKILL.md to where Claude Code looks for it: ~/.claude/skills, or .claude/skills of this directory."""
    print(f"wrote {install_skill.install_skill(project=project)}")
