"""The verb about keys: doctor."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from skill.cli.console import print_json
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED
from skill.common.files import read_text
from skill.common.text_table import columns
from skill.terminal import live


@click.command("doctor", short_help="Check the keys of Vast.ai, W&B, Hugging Face and GitHub.")
@JSON
def doctor_verb(as_json: bool) -> int:
    """Check whether the keys of Vast.ai, W&B, Hugging Face and GitHub are valid; none is shown.

    Keys are looked for in the environment, in .env beside workers.yaml, and where the service's own command stores
    them. A missing optional key is not an error; the key of Vast.ai is required where workers.yaml names rented
    machines. Exit code 1 if a key is invalid or could not be checked.
    """
    from skill.hosts.registry import Registry, locate
    from skill.operations import check_keys

    where = locate(Path.cwd())
    rents = any(worker.instance_id is not None for worker in Registry.load(where).workers.values())
    checked = check_keys.check(os.environ, _beside(where.parent / ".env"), rents=rents)
    is_well = check_keys.well(checked, rents=rents)
    if as_json:
        print_json({"well": is_well, "keys": [one._asdict() for one in checked]})
    else:
        output = live.console()
        rows = [
            ["service", "key", "from", ""],
            *([one.service, one.status, one.source or "-", one.hint] for one in checked),
        ]
        for line in columns(rows, output.width, head=True):
            output.print(line, no_wrap=True, crop=False)
    return DONE if is_well else FAILED


def _beside(path: Path) -> dict[str, str]:
    """What a .env file sets of the names that are known; {} where it is not there. Raises UseError."""
    from skill.hosts.dotenv import ALLOWED, choose

    try:
        text = read_text(path)
    except FileNotFoundError:
        return {}
    pairs = (text.partition("=") for text in shlex.split(choose(text, ALLOWED, str(path)).text))
    return {name: value for name, _, value in pairs}
