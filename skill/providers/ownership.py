"""Whose an instance is. The one place that decides it, and the proof without which the client changes nothing of an
instance. Pure.

An account may have instances of colleagues and of other projects, and a number may be wrong: what a create answered,
what stands in a file. The label that an instance shows now is what tells.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from skill.providers.instances import Instance

_MINT = object()


class Claim(NamedTuple):
    """Why an instance should be ours. `label`: the one that our ledger has for it, None if it has none; `named`:
    whether a worker of workers.yaml names its number."""

    number: int
    label: str | None
    named: bool = False


class Ours:
    """Proof that an instance is ours, by what it showed a moment ago. Only `decide` makes one."""

    __slots__ = ("claim",)

    def __init__(self, claim: Claim, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("only ownership.decide says that an instance is ours")
        self.claim = claim

    @property
    def number(self) -> int:
        return self.claim.number


class NotOurs(NamedTuple):
    """It is not ours, or not known to be; and why, in words."""

    why: str


Verdict = Union[Ours, NotOurs]


def decide(claim: Claim, live: Instance) -> Verdict:
    """Whether an instance, as it is shown now, is ours.

    Where the ledger has a label for it, the instance has to bear that one. Where it has none, a worker has to name it:
    a person wrote that. Nothing else is ours.
    """
    number = claim.number
    if live.id != number or isinstance(number, bool) or number <= 0:
        return NotOurs(f"the answer is about instance {live.id}, not {number}")
    if claim.label is not None:
        if live.label == claim.label:
            return Ours(claim, _MINT)
        shown = f"has the label {live.label!r}" if live.label else "has no label"
        return NotOurs(f"instance {number} {shown} instead of {claim.label}, which was given here: it is not ours")
    if claim.named:
        return Ours(claim, _MINT)
    return NotOurs(
        f"instance {number} may belong to somebody else: no worker has this instance_id, and it has no label that "
        "was given here. If it is yours, write instance_id at its worker in workers.yaml"
    )
