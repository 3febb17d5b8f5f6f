"""Values of `env` that look like keys: a manifest is pulled, packed and shown, so they should not stand in it. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter

from build_manifest.faults import Faults
from build_manifest.nodes import Scalar

_KNOWN = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{10,}|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[\w-]{30,}|r8_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_NAMED = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:$|_)", re.IGNORECASE
)
_SHORTEST, _LEAST_BITS = 16, 3.0
"""A text of fewer characters, or of less entropy a character, is a word and no key."""


def is_secret(name: str, value: str) -> bool:
    """Whether the value of a variable looks like a key: by its beginning, or by its randomness and the name."""
    if _KNOWN.search(value):
        return True
    if not _NAMED.search(name) or len(value) < _SHORTEST or re.search(r"[\s/]", value):
        return False
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts) >= _LEAST_BITS


def warn_of_secret(faults: Faults, name: str, scalar: Scalar) -> None:
    """Name a value that looks like a key, without showing it."""
    if is_secret(name, scalar.text):
        what = f"env {name} looks like a key, and the manifest, which is pulled and shown, would hold it"
        faults.warn(scalar.mark, f"{what}; write {name}: {{from: {name}}}, and the value into .env or your environment")
