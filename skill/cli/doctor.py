"""The verb about keys: doctor."""

from __future__ import annotations

import click

from skill.cli.console import print_json, print_table
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED
from skill.common.project import locate_workers


@click.command("doctor", short_help="Check the keys of Vast.ai, W&B, Hugging Face and GitHub.")
@JSON
def doctor_verb(as_json: bool) -> int:
    """Check whether the keys of Vast.ai, W&B, Hugging Face and GitHub are valid; none is shown.

    Keys are looked for in the environment, in .env beside workers.yaml, and where the service's own command stores
    them. A missing optional key is not an error; the key of Vast.ai is required where workers.yaml names rented
    machines. Exit code 1 if a key is invalid or could not be checked.
    """
    from skill.operations import check_keys

    checked, is_well = check_keys.check_project(locate_workers())
    if as_json:
        print_json({"well": is_well, "keys": [one._asdict() for one in checked]})
    else:
        rows = [[one.service, one.status, one.source or "-", one.hint] for one in checked]
        print_table([["service", "key", "from", ""], *rows])
    return DONE if is_well else FAILED
