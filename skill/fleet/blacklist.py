"""The file of machines that must not be rented again. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from skill.common.errors import UseError

FIELDS = ("machine_id", "reason", "added")


class Banned(NamedTuple):
    """One machine, why, and since when (ISO 8601 in UTC)."""

    machine_id: int
    reason: str
    added: str


def parse(text: str, file: str) -> tuple[Banned, ...]:
    """Parse the file. Raises UseError with the place of the fault."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UseError(f"{file}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise UseError(
            f"{file}: is not a list of machines: it is nested too deeply, or has an endless number"
        ) from None
    if not isinstance(found, list):
        raise UseError(f'{file}: has to be a list, as in [{{"machine_id": 123, "reason": "slow", "added": ""}}]')
    return tuple(_one(row, f"{file}: record {number}") for number, row in enumerate(found, 1))


def encode(banned: Iterable[Banned]) -> str:
    """Write the file, a line for each machine, so that a diff shows changes."""
    rows = [json.dumps(one._asdict(), ensure_ascii=False) for one in sorted(banned)]
    return "[\n  " + ",\n  ".join(rows) + "\n]\n" if rows else "[]\n"


def _one(row: object, where: str) -> Banned:
    if not isinstance(row, dict) or not isinstance(row.get("machine_id"), int) or isinstance(row["machine_id"], bool):
        raise UseError(f"{where} needs machine_id, a number")
    if not all(isinstance(row.get(name, ""), str) for name in FIELDS[1:]):
        raise UseError(f"{where}: reason and added have to be text")
    unknown = [name for name in row if name not in FIELDS]
    if unknown:
        raise UseError(f"{where} has an unknown key {unknown[0]}; there are: {', '.join(FIELDS)}")
    return Banned(row["machine_id"], row.get("reason", ""), row.get("added", ""))
