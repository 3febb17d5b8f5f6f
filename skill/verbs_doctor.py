"""The verb about keys: doctor."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from skill import view
from skill.errors import DONE, FAILED
from skill.files import read_text
from skill.table import columns
from skill.verbs_spec import JSON, print_json


@click.command("doctor", short_help="Check the keys of Vast.ai, W&B, Hugging Face and GitHub.")
@JSON
def doctor_verb(as_json: bool) -> int:
    """Check whether the keys of Vast.ai, W&B, Hugging Face and GitHub are taken; none is shown.

    Each is looked for in the environment, in .env beside workers.yaml, and where the service's own command puts it. One
    that is not there is no fault, but that of Vast.ai is where workers.yaml names rented machines. Exit code 1 if one
    is invalid, or could not be checked.
    """
    from skill import doctor
    from skill.registry import Registry, locate

    where = locate(Path.cwd())
    rents = any(worker.instance_id is not None for worker in Registry.load(where).workers.values())
    checked = doctor.check(os.environ, _beside(where.parent / ".env"), rents=rents)
    is_well = doctor.well(checked, rents=rents)
    if as_json:
        print_json({"well": is_well, "keys": [one._asdict() for one in checked]})
    else:
        output = view.console()
        rows = [
            ["service", "key", "from", ""],
            *([one.service, one.status, one.source or "-", one.hint] for one in checked),
        ]
        for line in columns(rows, output.width, head=True):
            output.print(line, no_wrap=True, crop=False)
    return DONE if is_well else FAILED


def _beside(path: Path) -> dict[str, str]:
    """What a .env file sets of the names that are known; {} where it is not there. Raises UseError."""
    from skill.dotenv import ALLOWED, choose

    try:
        text = read_text(path)
    except FileNotFoundError:
        return {}
    pairs = (text.partition("=") for text in shlex.split(choose(text, ALLOWED, str(path)).text))
    return {name: value for name, _, value in pairs}
