"""Verbs about what stands beside an experiment's code: research checkpoint-helper."""

from __future__ import annotations

from pathlib import Path

import click

from skill.common.errors import DONE


@click.command("checkpoint-helper", short_help="Copy the checkpoint helper beside an experiment's code.")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def checkpoint_helper(folder: Path) -> int:
    """Copy checkpoint.py into DIR (default: the present one): a module of one file, without dependencies.

    It saves the results of an experiment every few items. Whatever is killed, a rerun goes on, and ends with exactly
    one result for each item. status and watch show completed/total of a job whose expected_output it writes.
    """
    from skill.operations import copy_helper

    path, is_new = copy_helper.copy_checkpoint_helper(folder)
    print(f"wrote {path}" if is_new else f"{path} is up to date")
    print("from checkpoint import Checkpoint")
    print()
    print('with Checkpoint("out/results.json", total=len(items), every=10) as saved:')
    print("    for item in saved.rest(items):")
    print("        saved.add(evaluate(item))")
    return DONE
