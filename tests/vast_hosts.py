"""Real sshd hosts behind the double's instances: each with a direct and a proxy address that change at every start,
and with what a container's first process has in its environment."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests import kept_runtime
from tests.sshd import Sshd, free_port
from tests.vast_world import Box

PROXY = "127.0.0.1"


class InstanceHost(Sshd):
    """One instance as a host. It listens at `address`:`port`, and by the proxy at PROXY:`proxy`.

    What /proc/1/environ is inside a container lies below `proc`; sessions find it by WAVEQUEUE_PROC.
    """

    def __init__(self, root: Path, address: str, environment: Mapping[str, str]) -> None:
        self.proxy = free_port(PROXY)
        self.proc = root / "proc"
        self.authorized_keys: list[str] = []
        super().__init__(root, address=address, environment={"WAVEQUEUE_PROC": str(self.proc), **environment})

    def _write_config(self) -> None:
        super()._write_config()
        with (self.root / "sshd_config").open("a") as config:
            config.write(f"ListenAddress {PROXY}:{self.proxy}\n")
        with (self.root / "authorized_keys").open("a") as keys:
            keys.writelines(f"{key}\n" for key in self.authorized_keys)

    def authorize(self, public_key: str) -> None:
        """Let one more key in, at once and after every start."""
        self.authorized_keys.append(public_key)
        self._write_config()

    def move(self, address: str) -> None:
        """Listen elsewhere from the next start on."""
        self.address, self.port, self.proxy = address, free_port(address), free_port(PROXY)
        self._write_config()

    def is_instance(self, variables: Mapping[str, str], start: int = 1) -> None:
        """Say who it is, and in which of its lives, where the first process of a container says so."""
        (self.proc / "1").mkdir(parents=True, exist_ok=True)
        (self.proc / "1" / "stat").write_text(f"1 (launch) S {'0 ' * 18}{start}\n")
        text = "".join(f"{name}={value}\0" for name, value in variables.items())
        (self.proc / "1" / "environ").write_text(text)


class LoopbackHosts:
    """The hosts of a double, made when an instance first runs. `url`: where the double is, known to each host. `new`:
    they have no runtime yet, which the image of one who runs often may have."""

    def __init__(self, root: Path, url: Callable[[], str], new: bool = False) -> None:
        self.root, self._url, self.new = root, url, new
        self.of: dict[int, InstanceHost] = {}
        self._next = 1

    def _address(self) -> str:
        self._next = self._next % 250 + 1
        return f"127.0.0.{self._next}"

    def start(self, box: Box) -> None:
        host = self.of.get(box.id)
        if host is None:
            self.root.mkdir(exist_ok=True)
            folder = self.root / f"c{box.id}"
            host = self.of[box.id] = InstanceHost(folder, self._address(), {"VAST_URL": self._url()})
            host.authorized_keys += box.keys
            host._write_config()
            if not self.new:
                kept_runtime.give(host.home)
        else:
            host.move(self._address())
            host.start()
        env = {name: value for name, value in (box.body.get("env") or {}).items() if not name.startswith("-")}
        variables = {
            "CONTAINER_ID": str(box.id), "VAST_CONTAINERLABEL": f"C.{box.id}", "CONTAINER_API_KEY": box.api_key,
            "PUBLIC_IPADDR": host.address, "VAST_TCP_PORT_22": str(host.port), "VAST_URL": self._url(), **env,
        }  # fmt: skip
        host.is_instance(variables, box.starts)
        jupyter = "jupyter" in str(box.body.get("runtype", ""))
        box.listens = {
            "public_ipaddr": host.address, "port": host.port, "ssh_host": PROXY, "ssh_port": host.proxy - jupyter,
        }  # fmt: skip
        if box.body.get("onstart"):
            self._onstart(host, box.body["onstart"])

    def _onstart(self, host: InstanceHost, text: str) -> None:
        """What Vast.ai does at every start of a container."""
        script = host.home / "onstart.sh"
        script.write_text(text)
        with (host.home / "onstart.log").open("ab") as log:
            subprocess.run(
                ["bash", str(script)],
                env=host.variables,
                cwd=host.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=150,
                check=False,
                start_new_session=True,
            )

    def stop(self, box: Box) -> None:
        self.of[box.id].kill_all()

    def destroy(self, box: Box) -> None:
        host = self.of.pop(box.id, None)
        if host is not None:
            self._close(host)
            shutil.rmtree(host.root, ignore_errors=True)

    def authorize(self, box: Box, public_key: str) -> None:
        if box.id in self.of:
            self.of[box.id].authorize(public_key)

    def _close(self, host: InstanceHost) -> None:
        host.close()

    def close(self) -> None:
        for host in self.of.values():
            self._close(host)
