"""Addresses as people write and paste them."""

from __future__ import annotations

import pytest

from skill.common.errors import UseError
from skill.hosts.address import Address, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("gpu", Address("gpu")),
        ("10.0.0.5", Address("10.0.0.5")),
        ("ana@gpu.lab.org", Address("gpu.lab.org", None, "ana")),
        ("ana@gpu:2222", Address("gpu", 2222, "ana")),
        ("gpu:22", Address("gpu", 22)),
        ("ana@lab.org@jump", Address("jump", None, "ana@lab.org")),
        ("root@[::1]:22", Address("::1", 22, "root")),
        ("[fe80::1%eth0]", Address("fe80::1%eth0")),
        ("2001:db8::5", Address("2001:db8::5")),
        ("ssh://root@1.2.3.4:40022", Address("1.2.3.4", 40022, "root")),
        ("ssh://gpu/", Address("gpu")),
        ("SSH://[::1]:22", Address("::1", 22)),
        ("ssh -p 12345 root@1.2.3.4", Address("1.2.3.4", 12345, "root")),
        ("  ssh -p12345 root@1.2.3.4 -L 8080:localhost:8080 ", Address("1.2.3.4", 12345, "root")),
        ("ssh -i '~/my keys/vast' -l root -o StrictHostKeyChecking=no h", Address("h", None, "root", "~/my keys/vast")),
        ("ssh ssh://root@h:5", Address("h", 5, "root")),
    ],
)
def test_an_address_is_understood(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("http://gpu", "only ssh:// leads to a host"),
        ("ssh://gpu/data", "--workspace /data"),
        ("root:secret@gpu", "an address cannot contain a password"),
        ("gpu:70000", "'70000' is not a port"),
        ("gpu:²", "is not a port"),
        ("gpu:", "ends where its port should be"),
        ("@gpu", "not the name of a user"),
        ("root@", "not the name of a host"),
        ("-oProxyCommand=x", "not the name of a host"),
        ("-x@gpu", "not the name of a user"),
        ("a b", "not the name of a host"),
        ("gpu;reboot", "not the name of a host"),
        ("gpu\nx", "not the name of a host"),
        ("[::1", "is not [ADDRESS]:PORT"),
        ("[::1]22", "is not [ADDRESS]:PORT"),
        ("ssh", "names no hosts"),
        ("ssh a b", "names 2 hosts"),
        ("ssh -p", "ends after -p"),
        ("ssh -J jump gpu", "the option -J of the ssh command is not known"),
        ("ssh 'gpu", "an unclosed quote"),
        ("ssh -p x gpu", "'x' is not a port"),
    ],
)
def test_what_is_no_address_is_reported(text: str, words: str) -> None:
    with pytest.raises(UseError) as error:
        parse(text)
    assert words in str(error.value)
    assert "secret" not in str(error.value)
