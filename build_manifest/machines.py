"""The machines of a spec: which hosts, and which of their GPUs."""

from __future__ import annotations

import re
from functools import partial

from build_manifest.fields import Fields
from build_manifest.nodes import ListNode, Node, Scalar
from build_manifest.values import integer

_HOST = re.compile(r"[^\s-][^\s]*")


def read_hosts(fields: Fields, node: Node | None) -> tuple[str, ...]:
    """Read the hosts of a spec, as they were named."""
    hosts: list[str] = []
    for scalar in fields.texts(node, "a host"):
        if not _HOST.fullmatch(scalar.text):
            hint = "write it as in ~/.ssh/config, without spaces"
            fields.faults.add(scalar.mark, f"{scalar.text!r} is not a host name", hint)
        elif scalar.text in hosts:
            fields.faults.add(scalar.mark, f"the host {scalar.text!r} is named twice", "keep one of them")
        else:
            hosts.append(scalar.text)
    if isinstance(node, ListNode) and not node.items:
        fields.faults.add(node.mark, "the list of hosts is empty", "name one, or remove the key")
    return tuple(hosts)


def read_cards(fields: Fields, node: Node | None) -> tuple[int, ...] | None:
    """Read the GPUs that may be used, by their index; None for all."""
    if node is None:
        return None
    if not isinstance(node, ListNode):
        text = node.text if isinstance(node, Scalar) else "0"
        hint = f"write [{text}] for the GPU {text}; the number of GPUs that a job needs goes in its template"
        fields.faults.add(node.mark, "gpus at the top of the spec must be a list of the GPUs that may be used", hint)
        return None
    cards: list[int] = []
    for item in node.items:
        card = fields.number(item, "a GPU", partial(integer, minimum=0))
        if card in cards:
            fields.faults.add(item.mark, f"GPU {card} is named twice", "keep one of them")
        elif card is not None:
            cards.append(card)
    return tuple(cards)
