"""A laptop with an account at Vast.ai and nothing rented yet: whatever it rents is a real sshd host on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from skill.fleet import ledger
from skill.fleet.ledger import Rental
from tests.laptop import Laptop
from tests.sshd import make_key
from tests.vast_double import Double
from tests.vast_hosts import LoopbackHosts

QUICK = "rent: {ready_within: 15m}\n"


class Account:
    """A person's machine, an ssh key, and the double of Vast.ai."""

    def __init__(self, root: Path, settings: str = QUICK) -> None:
        self.hosts = LoopbackHosts(root / "hosts", lambda: self.double.url)
        self.double = Double(self.hosts)
        self.laptop = Laptop(root)
        self.laptop.environment = self.double.environment
        key = self.laptop.home / ".ssh" / "id_ed25519"
        key.parent.mkdir()
        make_key(key)
        self.settings = self.laptop.project / "vast.yaml"
        self.settings.write_text(settings)
        self.registry = self.laptop.project / "workers.yaml"

    def offer(self, **fields: Any) -> dict[str, Any]:
        return self.double.world.offer(**fields)

    def call(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        return self.laptop.call(*arguments, code=code)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call(*arguments, "--json", code=code)[0])
        return found

    def workers(self) -> dict[str, Any]:
        found = YAML(typ="safe").load(self.registry) if self.registry.exists() else None
        return dict((found or {}).get("workers") or {})

    def rentals(self) -> list[Rental]:
        file = self.laptop.project / ".wavequeue" / "ledger.jsonl"
        return list(ledger.fold(file.read_text(), "ledger").values()) if file.exists() else []

    def living(self) -> list[int]:
        """Numbers of the instances that are there."""
        return [number for number, box in self.double.world.boxes.items() if box.lingers is None]

    def creates(self) -> int:
        """How many creates were asked for."""
        return self.double.count("PUT", "/asks/")

    def close(self) -> None:
        self.hosts.close()
        self.laptop.close()
        self.double.close()
