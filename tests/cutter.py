"""Connections that are cut at a byte that the test chooses."""

from __future__ import annotations

import socket
import threading


class Cutter:
    """Stands before a server, and cuts each connection when so many bytes of the server have passed. `count`: of
    connections."""

    def __init__(self, port: int, most: int) -> None:
        self._port, self._most, self.count = port, most, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.count += 1
            there = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=_pass_on, args=(client, there, 1 << 30), daemon=True).start()
            threading.Thread(target=_pass_on, args=(there, client, self._most), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, most: int) -> None:
    try:
        while most > 0 and (data := source.recv(min(most, 65536))):
            target.sendall(data)
            most -= len(data)
    except OSError:
        pass
    for one in (source, target):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
