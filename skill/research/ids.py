"""Ids of projects and of their records. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from skill.research.records import KINDS, Record

_LONGEST = 40
_WORDS = re.compile(r"[a-z0-9]+")


def slug(title: str) -> str:
    """The id of a project, from its title: `Two moons, noisy!` becomes two-moons-noisy. A title without Latin letters
    and digits gets one by its hash."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = "-".join(_WORDS.findall(plain))
    if len(words) > _LONGEST:
        words = words[: _LONGEST + 1].rpartition("-")[0] or words[:_LONGEST]
    return words or "p" + hashlib.sha256(title.encode()).hexdigest()[:8]


def counter(queue: str, project: str) -> str:
    """The name under which the highest number of a project's records in a queue is kept."""
    return f"{project}-{KINDS[queue].letter}"


def highest(queue: str, records: Iterable[Record]) -> dict[str, int]:
    """The highest number of an id among the records of a queue, by counter."""
    found: dict[str, int] = {}
    for record in records:
        prefix, number = counter(queue, record["project"]), 0
        rest = record["id"][len(prefix) :] if record["id"].startswith(prefix) else ""
        if rest.isascii() and rest.isdigit() and len(rest) < 16:
            number = int(rest)
        found[prefix] = max(found.get(prefix, 0), number)
    return found


def numbered(
    queue: str, new: Iterable[Record], taken: Iterable[Record], given: Mapping[str, int]
) -> tuple[list[Record], dict[str, int]]:
    """Give ids to new records, none that one ever had. `given`: the highest number so far, by counter; it is returned
    as it is then, too."""
    counts = dict(given)
    for prefix, number in highest(queue, taken).items():
        counts[prefix] = max(counts.get(prefix, 0), number)
    records = []
    for record in new:
        prefix = counter(queue, record["project"])
        counts[prefix] = counts.get(prefix, 0) + 1
        records.append({"id": f"{prefix}{counts[prefix]}", **record})
    return records, counts
