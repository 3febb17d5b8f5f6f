"""The key of a Vast.ai account, and where its server is. No message, log or file of ours ever holds the key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from build_manifest import regular_file
from skill.common.errors import UseError
from skill.common.http import base_url, key_fault

_MOST = 1 << 16
SERVER = "https://console.vast.ai"
HOW = "put it into VAST_API_KEY, or: vastai set api-key KEY (keys: https://cloud.vast.ai/manage-keys/)"


class Key:
    """A key, and where it is from. It shows itself nowhere."""

    def __init__(self, secret: str, source: str) -> None:
        self.secret, self.source = secret, source

    def __repr__(self) -> str:
        return f"Key(from {self.source})"


def find(environment: Mapping[str, str] | None = None) -> Key | None:
    """The key: VAST_API_KEY, else a file of the official command; None where there is none. Raises UseError."""
    variables = os.environ if environment is None else environment
    key = variables.get("VAST_API_KEY", "").strip()
    if key:
        return _checked(key, "VAST_API_KEY")
    home = Path(variables.get("HOME") or Path.home())
    config = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    for path in (config / "vastai" / "vast_api_key", home / ".vast_api_key"):
        try:
            key = regular_file.read_text(path, _MOST).strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError):
            raise UseError(f"the key of Vast.ai in {path} cannot be read; {HOW}") from None
        if key:
            return _checked(key, str(path))
    return None


def server(environment: Mapping[str, str] | None = None) -> str:
    """Where Vast.ai is asked: VAST_URL, else its own. Raises UseError."""
    variables = os.environ if environment is None else environment
    return base_url(variables.get("VAST_URL") or SERVER, "VAST_URL")


def _checked(key: str, source: str) -> Key:
    fault = key_fault(key)
    if fault:
        raise UseError(f"the key of Vast.ai in {source} {fault}; {HOW}")
    return Key(key, source)
