"""Requests over TLS, to a server whose certificate nobody has signed."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from skill.common import http
from skill.common.http import NoReply, Reply, Request, Server

HERE = "127.0.0.1"


def make_certificate(path: Path) -> None:
    """Write a key, and a certificate for this machine that is signed by it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HERE)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HERE))]), critical=False)
        .sign(key, SHA256())
    )
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(text + made.public_bytes(Encoding.PEM))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    make_certificate(path)
    return path


@pytest.fixture
def address(certificate: Path) -> Iterator[str]:
    """A server with that certificate, for two connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server((HERE, 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(listening.accept()[0], server_side=True) as taken,
                ):
                    taken.recv(1 << 16)
                    taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://{HERE}:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_gets_a_request_only_if_its_certificate_is_trusted(
    address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Server(address, {"Authorization": "secret"}).ask(Request("GET", "/"))
    assert isinstance(found, NoReply)
    assert "certificate verify failed" in found.reason
    assert not found.sent
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http._trust.cache_clear()  # as of a process that begins with it
    server = Server(address.replace("https", "HTTPS"), {})
    assert isinstance(server.ask(Request("GET", "/")), Reply)
    server.close()
    http._trust.cache_clear()
