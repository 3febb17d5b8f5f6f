"""Keys and tokens in a spec: a manifest is pulled, packed and shown, so they should not stand in it. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from build_manifest.faults import Faults
from build_manifest.nodes import ListNode, MapNode, Node, Scalar, locate

_KNOWN = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-(?:ant|proj|or|svcacct|admin|lf)-[\w-]{16,}|sk-[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|A(?:KIA|SIA)[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|r8_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{20,})|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|https://(?:hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)"
    r"|(?:\w{1,20}\.)?discord(?:app)?\.com/api/(?:v\d{1,3}/)?webhooks"
    r"|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/(?:v2/)?hook|api\.telegram\.org/bot\d{1,20}:)"
    r"[\w/:.-]*\w{8}[\w/:.-]*"
)
_NAMED = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:$|_)", re.IGNORECASE
)
_SHORTEST, _LEAST_BITS = 16, 3.0
"""A text of fewer characters, or of less entropy a character, is a word and no key."""
_GIVEN = re.compile(
    r"(?<![\w-])(?:--?)?(?P<name>[A-Za-z][\w-]*?(?:key|token|secret|password|passwd|passphrase))"
    r"(?:=|\s+)['\"]?(?P<value>[\w.+/=-]{20,})|\bwandb\s+login\s+(?:--\w+\s+)*(?P<wandb>[0-9a-f]{40})\b",
    re.IGNORECASE,
)
"""A variable or an option of a command that is called after a key, with its value."""
_PATHS = re.compile(r"https?://([^\s?#'\"]{1,2000})")
_GIVEN_LEAST, _GIVEN_BITS = 20, 3.3
_ANY_NAME = re.compile("key|token|secret|passw|passphrase|credential", re.IGNORECASE)
_USUAL = (
    ("sk-ant-", "ANTHROPIC_API_KEY"), ("sk-", "OPENAI_API_KEY"), ("hf_", "HF_TOKEN"), ("gh", "GITHUB_TOKEN"),
    ("AKIA", "AWS_ACCESS_KEY_ID"), ("ASIA", "AWS_ACCESS_KEY_ID"), ("xox", "SLACK_TOKEN"), ("AIza", "GOOGLE_API_KEY"),
    ("https://hooks.slack", "SLACK_WEBHOOK_URL"), ("https://open.", "FEISHU_WEBHOOK_URL"), ("https://", "WEBHOOK_URL"),
)  # fmt: skip
"""Beginnings of keys, and the variables that programs look for them in."""
_HELD = "and the manifest, which is pulled and shown, would contain it"
_VALUE = "and put the value into .env or your environment"


def is_secret(name: str, value: str) -> bool:
    """Whether the value of a variable looks like a key: by its beginning, or by its randomness and the name."""
    if _KNOWN.search(value):
        return True
    if not _NAMED.search(name) or len(value) < _SHORTEST or re.search(r"[\s/]", value):
        return False
    return _bits(value) >= _LEAST_BITS


def _bits(value: str) -> float:
    """Entropy of a text, in bits a character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def key_in(text: str) -> tuple[str, str] | None:
    """What in a command, or another text, looks like a key, and the variable that it could come from; None if nothing
    does."""
    known = _KNOWN.search(text)
    if known:
        usual = next((name for beginning, name in _USUAL if known[0].startswith(beginning)), "MY_KEY")
        given = re.search(r"(?:^|[\s;&|])([A-Za-z_]\w*)=['\"]?$", text[: known.start()])
        return known[0], given[1] if given else usual
    for match in _GIVEN.finditer(text):
        value = match["value"] or match["wandb"]
        if match["wandb"] or _is_random(value):
            return value, "WANDB_API_KEY" if match["wandb"] else match["name"].replace("-", "_").upper()
    return None


def path_key(text: str) -> str | None:
    """The part of a URL's path that looks like a key: whoever has such an address of a webhook may post to it."""
    for url in _PATHS.findall(text):
        found = next((part for part in re.split("[/@]", url)[1:] if _is_random(part)), None)
        if found is not None:
            return str(found)
    return None


def _is_random(value: str) -> bool:
    """Whether a text is a key rather than a name of something, where it stands under a name that keys have."""
    mixed = re.search("[0-9]", value) and re.search("[A-Za-z]", value) and not re.search(r"[\s./${]", value)
    return len(value) >= _GIVEN_LEAST and bool(mixed) and _bits(value) >= _GIVEN_BITS


def warn_of_secret(faults: Faults, name: str, scalar: Scalar) -> None:
    """Name a value of env that looks like a key, without showing it."""
    if is_secret(name, scalar.text):
        what = f"env {name} looks like a secret, {_HELD}"
        faults.warn(scalar.mark, f"{what}; write {name}: {{from: {name}}}, {_VALUE}")


def warn_of_secrets(faults: Faults, root: Node) -> None:
    """Name what looks like a key anywhere in a spec but in env, without showing it."""
    if key_in(faults.text) is None and not _ANY_NAME.search(faults.text):
        return
    for key, scalar in _texts(root, ""):
        found = key_in(scalar.text)
        name = key.replace("-", "_")
        if found is None and _NAMED.search(name) and _is_random(scalar.text):
            found = scalar.text, name.upper()
        if found is not None:
            value, variable = found
            how = f'write env: {{{variable}: {{from: {variable}}}}}, "${variable}" in cmd, {_VALUE}'
            faults.warn(locate(faults, scalar, value), f"this looks like a secret, {_HELD}; {how}")


def _texts(node: Node, name: str) -> Iterator[tuple[str, Scalar]]:
    """All values but those of env, each with the key that it stands under."""
    if isinstance(node, Scalar):
        yield name, node
    elif isinstance(node, ListNode):
        for item in node.items:
            yield from _texts(item, name)
    elif isinstance(node, MapNode):
        for key, value in node.entries:
            if not (key.text == "env" and isinstance(value, MapNode)):
                yield from _texts(value, key.text)
