"""Which way a host is entered, out of what ssh says of it and of the keys that there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skill.hosts import known_hosts, ssh_keys, ssh_route, ssh_words
from skill.hosts.known_hosts import HostKeyError
from skill.hosts.ssh_keys import Identity
from skill.hosts.ssh_settings import NO_FILE, Settings, ask, differences, expand, home, parse

USUAL = parse("nobody", "host nobody\nhostname nobody\nciphers a,b\nipqos lowdelay\nforwardagent no\n")
PLAIN = Identity("/k", "ssh-ed25519", b"k", is_private=True)


def by_options(text: str, *, has_ticket: bool = False) -> str | None:
    return ssh_route.by_options(parse("box", text), USUAL, has_ticket=has_ticket)


@pytest.mark.parametrize(
    "text",
    [
        "hostname 10.0.0.1\nciphers a,b\nproxyjump x\ncontrolmaster auto\ncontrolpath /tmp/x\nforwardagent yes\n",
        "ipqos none\nremotecommand tmux\nsetenv A=b\nsendenv LANG\nsendenv LC_*\naddkeystoagent true\n",
        "gssapiauthentication yes\npkcs11provider none\npreferredauthentications publickey,password\n",
    ],
)
def test_fabric_is_the_rule(text: str) -> None:
    assert by_options(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ciphers c\n", "Ciphers is set"),
        ("pkcs11provider /usr/lib/opensc.so\n", "PKCS11Provider is set"),
        ("hostbasedauthentication yes\n", "HostbasedAuthentication is set"),
        ("anoptionofnextyear yes\n", "anoptionofnextyear is set"),
        ("preferredauthentications password\n", "without publickey"),
    ],
)
def test_an_option_that_fabric_does_not_carry_out_takes_openssh(text: str, words: str) -> None:
    assert words in (by_options(text) or "")


def test_a_kerberos_ticket_takes_openssh() -> None:
    assert by_options("gssapiauthentication yes\n", has_ticket=True) == "there is a Kerberos ticket to log in with"
    assert by_options("gssapiauthentication no\n", has_ticket=True) is None


@pytest.mark.parametrize(
    ("identities", "agent", "only", "words"),
    [
        ([PLAIN], [("ssh-rsa", b"r")], False, None),
        ([PLAIN._replace(type="sk-ssh-ed25519@openssh.com")], [], False, "a key needs a touch"),
        ([PLAIN], [("sk-ecdsa-sha2-nistp256@openssh.com", b"s")], False, "a key needs a touch"),
        ([PLAIN], [("sk-ecdsa-sha2-nistp256@openssh.com", b"s")], True, None),
        ([PLAIN], [("ssh-ed25519-cert-v01@openssh.com", b"c")], False, "the agent holds a certificate"),
        ([PLAIN._replace(certificate="/k-cert.pub")], [], False, "the key /k has a certificate"),
        ([PLAIN._replace(type="ssh-dss")], [], False, "a key is of the type ssh-dss"),
        ([PLAIN._replace(type="", is_readable=False)], [], False, "the key /k has an unusual format"),
        ([PLAIN._replace(type="", is_locked=True)], [], False, None),
    ],
)
def test_a_key_that_fabric_cannot_sign_with_takes_openssh(
    identities: list[Identity], agent: list[tuple[str, bytes]], only: bool, words: str | None
) -> None:
    assert ssh_route.by_keys(identities, agent, identities_only=only) == words


def test_a_file_that_is_no_key_is_read_as_such(tmp_path: Path) -> None:
    assert ssh_keys.read(str(tmp_path / "nothing")) is None
    for text in ("", "hello\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END\n", "ssh-ed25519 !!\n"):
        (tmp_path / "key").write_text(text)
        found = ssh_keys.read(str(tmp_path / "key"))
        assert found is not None
        assert (found.blob, found.is_private, found.is_readable) == (None, True, False)
    os.mkfifo(tmp_path / "pipe")
    assert ssh_keys.read(str(tmp_path / "pipe")) is None


def test_values_are_expanded_as_ssh_does() -> None:
    settings = parse("ana@box", "hostname 10.0.0.1\nport 2222\nuser ana\n")
    assert settings.original == "box"
    text = "~/k_%h_%n_%p_%r_%%_%k_${WHO}"
    assert expand(text, settings, {"WHO": "%h"}) == f"{home()}/k_10.0.0.1_box_2222_ana_%_box_%h"
    for text in ("%Q", "${NOBODY}", "%"):
        with pytest.raises(ValueError, match="is not"):
            expand(text, settings, {})


def test_hosts_differ_by_more_than_their_names() -> None:
    text = "host @\nhostname @\nuser a\nstricthostkeychecking ask\nuserknownhostsfile /a/@ /b\ncontrolpath /x@\n"
    one, other = (parse(name, text.replace("@", name)) for name in ("a", "nobody.invalid"))
    assert differences(one, other) == []
    other = Settings(other.original, {**other.values, "proxyjump": ("x",)})
    assert differences(one, other) == ["proxyjump"]


def test_an_ssh_keygen_that_fails_is_not_taken_for_one_that_knows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "known").write_text("other ssh-ed25519 AAAA\n")
    settings = parse("box", f"hostname box\nport 22\nuserknownhostsfile {tmp_path}/known\n")
    assert known_hosts.known_to_ssh(settings) == known_hosts.NOTHING
    tool = tmp_path / "ssh-keygen"
    tool.write_text("#!/bin/sh\necho 'ssh-keygen: out of memory' >&2\nexit 255\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(HostKeyError, match=r"known could not be searched for it: ssh-keygen says .*out of memory"):
        known_hosts.known_to_ssh(settings)
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(HostKeyError, match="could not be searched"):
        known_hosts.known_to_ssh(settings)


def test_files_of_known_hosts_may_have_blanks_in_their_names(tmp_path: Path) -> None:
    for name in ("a", "b c"):
        (tmp_path / name).write_text("")
    assert known_hosts.files_in(f"{tmp_path}/a {tmp_path}/b c {tmp_path}/d") == [f"{tmp_path}/a", f"{tmp_path}/b c"]
    assert known_hosts.files_in("none") == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("root@h: Permission denied (publickey).\n", "auth"),
        ("Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures\n", "auth"),
        ("ssh: connect to host h port 22: Connection refused\nConnection closed by UNKNOWN port 65535\n", "refused"),
        ("ana@jump: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535\n", "auth"),
        ("kex_exchange_identification: Connection closed by remote host\n", "dropped"),
        ("Connection closed by 1.2.3.4 port 22\n", "dropped"),
        ("ssh: Could not resolve hostname h: Name or service not known\n", "name"),
        ("ssh: connect to host h port 22: Connection timed out\n", "timeout"),
        ("Host key verification failed.\n", "host_key"),
        ("something else\n", "other"),
        ("", "other"),
    ],
)
def test_words_of_ssh_tell_the_kind_of_a_failure(text: str, kind: str) -> None:
    assert ssh_words.kind(text) == kind


def test_the_telling_lines_are_kept() -> None:
    text = "Warning: Permanently added 'h' to the list\n@@@@@@@\nroot@h: Permission denied (publickey,password).\n"
    assert ssh_words.telling(text) == "root@h: Permission denied (publickey,password)."
    assert ssh_words.methods(text) == ("publickey", "password")
    assert ssh_words.asked_for(("publickey", "keyboard-interactive")) == "a password or a code"


def test_ssh_is_asked_again_where_its_files_may_say_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\necho \"$*\" >> '{tmp_path}/asked'\necho port 7\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    for name in ("one", "two"):
        config = tmp_path / name / ".ssh" / "config"
        config.parent.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(tmp_path / name))
        for text in ("Port 1\n", "Port 22\n"):
            config.write_text(text)
            for options in ((), NO_FILE):
                found = ask(("ssh", *options), "box")
                assert found == Settings("box", {"port": ("7",)})
    assert (tmp_path / "asked").read_text() == "-G box\n" + "-F none -G box\n" + 3 * "-G box\n"
