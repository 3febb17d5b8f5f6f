"""Read the `notify` of a spec: who gets alerts, checked for its shape and for secrets that are written out."""

from __future__ import annotations

import re
from typing import Any

from build_manifest.faults import listed
from build_manifest.fields import Fields
from build_manifest.nodes import ListNode, MapNode, Node, Scalar, locate
from build_manifest.secrets import key_in, path_key
from build_manifest.values import seconds
from queue_manager.core.notify_rules import KEYS, ON, SHAPES

_EXAMPLE = "write notify: {webhook: '${WEBHOOK_URL}', on: [stuck, finished]}, and put WEBHOOK_URL=https://… into .env"
_NAMED = re.compile(r"\$\{([^}]*)\}")
_ESCAPED = re.compile(r"\$\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE = re.compile(r"(?<!\$)\$([A-Za-z_][A-Za-z0-9_]*)")
_URL = re.compile(r"https?://[^/\s]+", re.IGNORECASE)
_ACCESS = re.compile(r"//[^/@\s]+:[^/@\s]+@|[?&](?:key|token|access_token|secret|sig|code)=[^&\s$]", re.IGNORECASE)
"""What lets anyone in who has the URL: a user with a password, or a key in its query."""
_LEAST = 1.0
"""Seconds between two messages about one alert, at least."""


def read_notify(fields: Fields, node: Node | None) -> dict[str, Any] | None:
    """Read the rules as a manifest has them. What cannot be read is noted and left out."""
    if node is None:
        return None
    if not isinstance(node, MapNode):
        fields.faults.add(node.mark, "notify must be a mapping", _EXAMPLE)
        return None
    table = fields.table(node, "notify", KEYS)
    if "command" not in table and "webhook" not in table:
        fields.faults.add(node.mark, "notify has neither command nor webhook", _EXAMPLE)
    if "shape" in table and "webhook" not in table:
        fields.faults.add(table["shape"].mark, "shape has no effect without webhook", "add webhook: '${WEBHOOK_URL}'")
    found = {
        **_command(fields, fields.text(table.get("command"), "command of notify")),
        "webhook": _webhook(fields, fields.text(table.get("webhook"), "webhook of notify")),
        "shape": fields.choice(table.get("shape"), "shape of notify", SHAPES),
        "on": _on(fields, table.get("on")),
        "every": fields.number(table.get("every"), "every of notify", _every),
    }
    return {key: value for key, value in found.items() if value is not None}


def _every(text: str) -> float:
    found = seconds(text)
    if found < _LEAST:
        raise ValueError(f"write {_LEAST:g} second or more, such as 1h")
    return found


def _on(fields: Fields, node: Node | None) -> list[str] | None:
    if node is None:
        return None
    items = node.items if isinstance(node, ListNode) else (node,)
    if not items:
        fields.faults.add(node.mark, "on of notify is empty", f"write some of: {listed(ON)}; or leave it out for all")
    found = [fields.choice(item, "on of notify", ON) for item in items]
    return list(dict.fromkeys(one for one in found if one is not None))


def _command(fields: Fields, scalar: Scalar | None) -> dict[str, Any]:
    """Read the command, and the variables that it takes from .env or the environment; bash itself expands them."""
    if scalar is None:
        return {}
    _refuse_secret(fields, scalar, "the command of notify", '"${WEBHOOK_URL}" in its place')
    text = _ESCAPED.sub("\0", scalar.text)
    names = [name for name in _NAMED.findall(text) if _NAME.fullmatch(name)]
    found: dict[str, Any] = {"command": text.replace("\0", "${")}
    return {**found, "names": list(dict.fromkeys(names))} if names else found


def _webhook(fields: Fields, scalar: Scalar | None) -> list[str] | None:
    """Read the URL, in parts: a text, the name of a variable, a text and so on."""
    if scalar is None:
        return None
    faults, text = fields.faults, scalar.text.strip()
    parts = _NAMED.split(text)
    wrong = next((name for name in parts[1::2] if not _NAME.fullmatch(name)), None)
    bare = _BARE.search(text)
    if wrong is not None:
        what = f"the webhook of notify has ${{{wrong}}}, which is not a variable"
        faults.add(locate(faults, scalar, f"${{{wrong}}}"), what, "write ${NAME}, with a name from .env")
    elif bare is not None:
        name = bare[1]
        faults.add(locate(faults, scalar, bare[0]), f"${name} is not expanded in a webhook", f"write ${{{name}}}")
    elif (parts[0] or len(parts) == 1) and not _URL.match(text):
        what = f"the webhook of notify is not a URL: {text[:40]!r}"
        faults.add(scalar.mark, what, "write https://…, or ${NAME} for one from .env")
    elif any(char.isspace() for char in text):
        faults.add(scalar.mark, "the webhook of notify has blanks in it", "remove them")
    else:
        _refuse_secret(fields, scalar, "the webhook of notify", "webhook: ${WEBHOOK_URL}")
        return parts
    return None


def _refuse_secret(fields: Fields, scalar: Scalar, what: str, how: str) -> None:
    found, in_path = key_in(scalar.text), path_key(scalar.text)
    if found is None and in_path is not None:
        found = in_path, "WEBHOOK_URL"
    if found is None and _ACCESS.search(scalar.text) is None:
        return
    name = found[1] if found is not None and found[1].endswith("WEBHOOK_URL") else "WEBHOOK_URL"
    mark = scalar.mark if found is None else locate(fields.faults, scalar, found[0])
    words = f"{what} contains a secret, and the manifest, which is pulled and shown, would contain it"
    fields.faults.add(
        mark, words, f"write {how.replace('WEBHOOK_URL', name)}, and put {name}=https://… into .env or your environment"
    )
