"""Read from key files what needs no passphrase. Changes nothing."""

from __future__ import annotations

import base64
import binascii
import os
import stat
import struct
from typing import NamedTuple

from build_manifest import regular_file

_MOST = 1 << 20
_MAGIC = b"openssh-key-v1\0"
_PLAIN = frozenset({"ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"})
_NUMBERS = {"ssh-ed25519": 1, "ssh-rsa": 2}
"""Of how many parts a public key is made."""
_PEM = ("BEGIN RSA PRIVATE KEY", "BEGIN EC PRIVATE KEY", "BEGIN PRIVATE KEY", "BEGIN ENCRYPTED PRIVATE KEY")


class Identity(NamedTuple):
    """A key that IdentityFile names. `type`: as in ssh-ed25519, "" where it is unknown; `blob`: its public half.

    `is_private`: the file has the private half, too. `is_locked`: by a passphrase. `is_open`: others may read it, and
    ssh does not use such a key. `is_readable`: its form is known here. `certificate`: of the same name beside it.
    """

    path: str
    type: str
    blob: bytes | None
    is_private: bool
    is_readable: bool = True
    is_locked: bool = False
    is_open: bool = False
    certificate: str | None = None


def read(path: str) -> Identity | None:
    """What a key file says; None where there is none."""
    text = _text(path)
    public = public_half(_text(f"{path}.pub") or "")
    certificate = f"{path}-cert.pub" if os.path.isfile(f"{path}-cert.pub") else None
    if text is None:
        # An agent or a card may well hold what only the public half stands for.
        return None if public is None else Identity(path, *public, is_private=False, certificate=certificate)
    shown = public_half(text)
    if shown is not None:
        return Identity(path, *shown, is_private=False, certificate=certificate)
    made = _private(path, text) or Identity(path, "", None, is_private=True, is_readable=False)
    if made.blob is None and public is not None:
        made = made._replace(type=public[0], blob=public[1])
    status = os.stat(path)
    is_open = status.st_uid == os.getuid() and bool(stat.S_IMODE(status.st_mode) & 0o077)
    return made._replace(is_open=is_open, certificate=certificate)


def without_certificate(key: str) -> str | None:
    """The key that a certificate is of, both as "TYPE BASE64"; a key without one is itself. None where it is none."""
    found = public_half(key)
    if found is None or "-cert-" not in found[0]:
        return None if found is None else key
    kind = found[0].partition("-cert-")[0]
    try:
        fields = _fields(found[1], 2 + (_NUMBERS.get(kind) or (2 if kind.startswith("ecdsa-") else 0)))
    except struct.error:
        return None
    # The type, then a number that is used once, then what the key itself is made of.
    blob = b"".join(struct.pack(">I", len(one)) + one for one in (kind.encode(), *fields[2:]))
    return f"{kind} {base64.b64encode(blob).decode()}" if len(fields) > 2 else None


def _fields(data: bytes, count: int) -> list[bytes]:
    found, at = [], 0
    for _ in range(count):
        (size,) = struct.unpack_from(">I", data, at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def is_plain(type_: str) -> bool:
    """Whether every library can sign with keys of a type."""
    return type_ in _PLAIN


def public_half(text: str) -> tuple[str, bytes] | None:
    """Type and bytes of a public key as a .pub file or an agent shows it; None where it is none."""
    parts = text.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return None
    try:
        return parts[0], base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        return None


def _private(path: str, text: str) -> Identity | None:
    if "BEGIN OPENSSH PRIVATE KEY" not in text:
        if not any(mark in text for mark in _PEM):
            return None
        return Identity(path, "", None, is_private=True, is_locked="ENCRYPTED" in text)
    body = "".join(line for line in text.splitlines() if "-----" not in line)
    try:
        data = base64.b64decode(body, validate=False)
        if not data.startswith(_MAGIC):
            return None
        at = len(_MAGIC)
        fields = []
        for number in range(5):  # cipher, key derivation, its options, the number of keys, the first public half
            if number == 3:
                at += 4
                continue
            (size,) = struct.unpack_from(">I", data, at)
            fields.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        cipher, _derivation, _options, blob = fields
        (size,) = struct.unpack_from(">I", blob)
        return Identity(
            path, blob[4 : 4 + size].decode(errors="replace"), blob, is_private=True, is_locked=cipher != b"none"
        )
    except (binascii.Error, ValueError, struct.error):
        return None


def _text(path: str) -> str | None:
    try:
        return regular_file.read_text(path, _MOST, errors="replace")
    except (OSError, ValueError):
        return None
