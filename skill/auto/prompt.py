"""Render the prompt of a request: a text with places for what is known. Each text can be overridden in the work
directory, as prompts/ROLE.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from string import Template

from skill.auto import context, reply
from skill.auto.campaign import Campaign
from skill.auto.layout import WorkDir
from skill.auto.ports import Request
from skill.auto.replies import OF_ROLE, Role
from skill.common import files
from skill.common.errors import UseError

_SHIPPED = Path(__file__).with_name("prompts")
PLACES = ("brief", "complaint", "context", "schema", "want", "workdir")
"""What stands in a prompt as $NAME."""


def renderer(work: WorkDir) -> Callable[[Request, Campaign], str]:
    """Renders the prompts of one work directory."""

    def render(request: Request, campaign: Campaign) -> str:
        brief = campaign.config.brief.strip()
        complaint = request.complaint.strip()
        return Template(template(work, request.role)).safe_substitute(
            brief=f"About the program, by the user:\n\n{brief}\n" if brief else "",
            complaint=f"\nWhat was wrong with your last attempt: {complaint}\n" if complaint else "",
            context=context.text(context.document(request, campaign)),
            schema=reply.schema_text(request.role).rstrip(),
            want=str(request.want),
            workdir=str(work.root.resolve()),
        )

    return render


def template(work: WorkDir, role: Role) -> str:
    """The text for a role: that of the work directory, or else ours. Raises UseError where it cannot be read."""
    try:
        return files.read_text(override(work, role))
    except FileNotFoundError:
        return files.read_text(_SHIPPED / f"{role}.md")


def override(work: WorkDir, role: Role) -> Path:
    """Where a work directory may have a text of its own."""
    return work.root / "prompts" / f"{role}.md"


def check(work: WorkDir) -> None:
    """Read all texts of a work directory. Raises UseError for one that cannot be used."""
    for role in OF_ROLE:
        if "$context" not in template(work, role) and "${context}" not in template(work, role):
            raise UseError(f"{override(work, role)} has no $context, where the agent is told what is known; add it")
