"""workers.yaml: what it says, what is wrong with it, and that an edit changes nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skill.common.errors import UseError
from skill.common.project import locate_workers
from skill.hosts.registry import Registry, Ssh, Worker, changed, ssh_aliases

TEXT = """\
# our machines
workers:
  gpu-a:  # under the desk
    kind: ssh
    ssh: {host: 10.0.0.5, port: 2222, user: 'ana', key: ~/.ssh/lab}
    pool: lab
    notes: "quoted: as it was"

  # rented
  vast-1:
    instance_id: 123
    enabled: false
    ssh:
      host: 1.2.3.4   # moves
      port: 40022
    health: {heartbeat: 60}
  here: {kind: local, workspace: /data}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "workers.yaml").write_text(TEXT)
    return tmp_path / "workers.yaml"


def test_reading(path: Path) -> None:
    assert Registry.load(path).workers == {
        "gpu-a": Worker("gpu-a", ssh=Ssh("10.0.0.5", 2222, "ana", "~/.ssh/lab"), pool="lab", notes="quoted: as it was"),
        "vast-1": Worker("vast-1", enabled=False, ssh=Ssh("1.2.3.4", 40022), health={"heartbeat": 60}, instance_id=123),
        "here": Worker("here", kind="local", workspace="/data"),
    }


def test_an_edit_keeps_all_else(path: Path) -> None:
    with changed(path) as registry:
        registry.patch("vast-1", {"ssh.port": 41000, "enabled": True})
    assert path.read_text() == TEXT.replace("40022", "41000").replace("enabled: false", "enabled: true")
    with changed(path) as registry:
        registry.add(Worker("new", ssh=Ssh("h", user="u"), pool="lab"))
    added = path.read_text()
    assert "# our machines" in added
    assert "# under the desk" in added
    assert Registry.load(path).named("new") == Worker("new", ssh=Ssh("h", user="u"), pool="lab")
    with changed(path) as registry:
        registry.remove("new")
    assert path.read_text() == TEXT.replace("40022", "41000").replace("enabled: false", "enabled: true")


def test_a_field_below_an_empty_one_is_set(path: Path) -> None:
    path.write_text("workers:\n  a:\n    health:  # unknown yet\n")
    with changed(path) as registry:
        registry.patch("a", {"health.status": "running"})
    assert Registry.load(path).named("a").health == {"status": "running"}
    assert "# unknown yet" in path.read_text()


def test_nothing_is_written_where_the_change_is_refused(path: Path) -> None:
    with pytest.raises(UseError, match="registered already"), changed(path) as registry:
        registry.add(Worker("gpu-a"))
    assert path.read_text() == TEXT


def test_a_change_is_read_by_nobody_before_it_is_written(path: Path) -> None:
    """All who read the same text share what was read of it, but for whoever changes it."""
    before = repr(Registry.load(path).workers)
    with changed(path) as registry:
        registry.patch("vast-1", {"ssh.port": 41000, "health.heartbeat": 0})
        assert repr(Registry.load(path).workers) == before
    assert repr(Registry.load(path).workers) != before


def test_the_first_worker(tmp_path: Path) -> None:
    path = locate_workers(tmp_path)
    assert Registry.load(path).workers == {}
    with changed(path) as registry:
        registry.add(Worker("a", kind="local"))
    assert path.read_text() == "workers:\n  a:\n    kind: local\n"


def test_twenty_at_once_lose_nothing(path: Path) -> None:
    def add(number: int) -> None:
        with changed(path) as registry:
            registry.add(Worker(f"w{number}", ssh=Ssh("h")))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(add, range(20)))
    assert {f"w{number}" for number in range(20)} < set(Registry.load(path).workers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", ":1:1: has to begin with `workers:`"),
        ("workers: {a: {kind: ssh\n", "cannot be read as YAML"),
        ("worker: {}\n", ":1:1: the file has an unknown key worker; did you mean workers?"),
        ("workers:\n  a: {}\n  a: {}\n", "cannot be read as YAML: found duplicate key"),
        ("workers:\n  a:\n    pol: x\n", ":3:5: a has an unknown key pol; did you mean pool?"),
        ("workers:\n  a:\n    kind: docker\n", ":3:5: kind of a has to be local or ssh, and not 'docker'"),
        ("workers:\n  a:\n    ssh: {port: 22}\n", ":3:5: ssh of a needs a host"),
        ("workers:\n  a:\n    ssh: {host: h, port: 70000}\n", "port of a has to be a number from 1 to 65535"),
        ("workers:\n  a:\n    ssh: {host: h, port: true}\n", "port of ssh of a has to be a number"),
        ("workers:\n  a:\n    ssh: {host: -oProxyCommand=x}\n", "may not begin with -"),
        ("workers:\n  a: ssh\n", ":2:3: a has to be a mapping"),
        ("workers:\n  a/b: {}\n", ":2:3: the name 'a/b'"),
        ("workers:\n  5: {}\n", "put it in quotes"),
        ("workers:\n  a: {instance_id: 5}\n", "needs ssh"),
        ("env_allow: HF_TOKEN\n", ":1:1: env_allow of the file has to be a list of names"),
        ("workers: {}\nenv_allow: [OK, a-b]\n", ":2:1: the name 'a-b' in env_allow may have letters"),
        ("workers:\n  a: {enabled: maybe}\n", "enabled of a has to be true or false, and not 'maybe'"),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "workers.yaml"
    path.write_text(text)
    with pytest.raises(UseError) as error:
        Registry.load(path)
    assert words in str(error.value)
    assert str(error.value).startswith(str(path))


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "workers.yaml"
    path.write_text("workers:\n  a: {pol: x}\n  b: {kind: y}\n  c: {ssh: {}}\n")
    with pytest.raises(UseError) as error:
        Registry.load(path)
    assert [line.split(":")[1] for line in str(error.value).splitlines()] == ["2", "3", "4"]


def test_names_of_the_ssh_config_serve(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / ".ssh" / "config"
    (tmp_path / ".ssh" / "more").write_text("Host fourth\n  User x\nInclude config\n")
    text = "Host *.lab !bad.lab\n  User x\nHost box bastion\n  ProxyJump bastion\nhost=third\nInclude nothing more\n"
    config.write_text(text)
    assert ssh_aliases(config) == ["box", "bastion", "third", "fourth"]
    (tmp_path / ".ssh" / "more").write_text("Host fourth\n  User x\n")
    registry = Registry.load(path)
    for name in ("box", "fourth", "seven.lab"):  # a pattern serves, too, as for ssh
        assert registry.named(name) == Worker(name)
    for name in ("bad.lab", "-oProxyCommand=touch x", "a b"):
        with pytest.raises(UseError, match="there is no host"):
            registry.named(name)
    with pytest.raises(UseError, match="did you mean gpu-a"):
        registry.named("gpu-b")
    config.write_text("Prot 22\n")
    with pytest.raises(UseError, match=r"config: line 1: Bad configuration option: prot"):
        registry.named("gpu-b")


def test_more_names_that_an_env_file_may_bring(path: Path) -> None:
    assert Registry.load(path).env_allow == ()
    path.write_text(TEXT + "env_allow: [MY_KEY, OTHER]\n")
    assert Registry.load(path).env_allow == ("MY_KEY", "OTHER")


def test_pools(path: Path) -> None:
    registry = Registry.load(path)
    assert [worker.name for worker in registry.in_pool("lab")] == ["gpu-a"]
    with pytest.raises(UseError, match="there are: lab"):
        registry.in_pool("vast")


def test_the_nearest_registry_is_meant(path: Path) -> None:
    below = path.parent / "a" / "b"
    below.mkdir(parents=True)
    assert locate_workers(below) == path
