"""Find files that look like secrets: they are not sent unless asked for by name."""

from __future__ import annotations

import fnmatch
from pathlib import Path, PurePosixPath

_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".git-credentials", ".pypirc", ".npmrc", ".dockercfg",
    ".pgpass", ".htpasswd", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk", "*.p12",
    "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "kaggle.json", "secrets.*", "secret.*", ".secrets", "*.secret",
    "*.secrets", "credentials", "credentials.*", "*_credentials.json", "client_secret*.json", "service_account*.json",
    "service-account*.json", "token.txt", "tokens.txt", "*_api_key", "*_api_key.txt", "api_key.txt", "vast_api_key",
)  # fmt: skip
"""Names of files, without case, that tools and people keep secrets in."""
_HARMLESS = ("*.example", "*.sample", "*.template", "*.dist", "*.tmpl", "*.py", "*.md", "*.rst", "*.pub", "*.sh")
"""Endings that take a name out again: models to copy, programs, texts and public keys."""
_HEADERS = (b"PRIVATE KEY-----", b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-1", b"-----BEGIN PGP PRIVATE KEY BLOCK")
_KEY_ENDINGS = frozenset({"", ".pem", ".key", ".txt", ".json", ".asc", ".gpg", ".age", ".crt", ".cer"})
_MAX_KEY = 64 << 10
"""Bytes: a key is smaller. What is larger is not opened."""


def looks_secret(source: Path, name: str) -> bool:
    """Tell whether a file, relative to `source`, looks like a secret by its name or by the header of a private key."""
    last = PurePosixPath(name).name.lower()
    if any(fnmatch.fnmatchcase(last, pattern) for pattern in _HARMLESS):
        return False
    if any(fnmatch.fnmatchcase(last, pattern) for pattern in _NAMES):
        return True
    path = source / name
    if PurePosixPath(last).suffix not in _KEY_ENDINGS or path.is_symlink():
        return False
    try:
        if not path.is_file() or path.stat().st_size > _MAX_KEY:
            return False
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False  # what cannot be read cannot be sent either, and that is said there
    return any(header in head for header in _HEADERS)
