"""`python -m build_manifest`: what it writes, what it says, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queue_manager.core.manifest import decode

SPEC = "project: p\ngrid: {seed: [1, 2]}\ntemplate: {id: 'j${seed}', cmd: 'run ${seed}', expected_output: out.json}\n"


def _build(config: object, output: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "build_manifest", "--config", str(config), "--output", str(output)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_manifest_is_written_and_the_warnings_are_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPEC)
    done = _build("s.yaml", "m.json", tmp_path)
    assert done.returncode == 0
    assert done.stdout == "2 jobs in 1 phase: m.json\n"
    assert done.stderr.startswith("s.yaml:3:65: warning: two jobs can write the same output")
    assert [job.id for job in decode((tmp_path / "m.json").read_text()).jobs] == ["j1", "j2"]


def test_the_same_spec_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, seed in (("a", "1"), ("elsewhere/b", "2")):
        (tmp_path / f"{name}.yaml").write_text(SPEC)
        assert _build(f"{name}.yaml", f"{name}.json", tmp_path, PYTHONHASHSEED=seed, TZ="Asia/Tokyo").returncode == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "elsewhere/b.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.yaml", None, "none.yaml: cannot be read: no such file or directory\n"),
        ("latin.yaml", b"project: p\n# caf\xe9\n", "latin.yaml:2:6: the file is not UTF-8; save it as UTF-8\n"),
        ("empty.yaml", b"", "empty.yaml:1:1: the spec is empty; begin with: project: NAME\n"),
        (".", None, ".: cannot be read: is a directory; give the spec file itself\n"),
    ],
)
def test_what_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = _build(name, "m.json", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    assert not (tmp_path / "m.json").exists()


def test_a_bad_spec_leaves_the_old_manifest_alone(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPEC.replace("grid", "gird"))
    (tmp_path / "m.json").write_text("old")
    done = _build("s.yaml", "m.json", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "s.yaml:2:1: unknown key 'gird' in a spec; did you mean 'grid'?"
    assert (tmp_path / "m.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "s.yaml"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/where/m.json", "no/where/m.json cannot be written: no such file or directory"),
        ("folder", "folder is not a regular file; write the manifest to another path"),
        ("s.yaml", "s.yaml is the spec itself; write the manifest to another file"),
        ("/dev/stdout", "/dev/stdout is not a regular file; write the manifest to another path"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_message(tmp_path: Path, output: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(SPEC)
    (tmp_path / "folder").mkdir()
    done = _build("s.yaml", output, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == message + "\n"
    assert (tmp_path / "s.yaml").read_text() == SPEC
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "s.yaml"]


def test_an_output_behind_a_link_is_replaced_there(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPEC)
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "m.json").symlink_to("real.json")
    assert _build("s.yaml", "m.json", tmp_path).returncode == 0
    assert (tmp_path / "m.json").is_symlink()
    assert len(decode((tmp_path / "real.json").read_text()).jobs) == 2


def test_windows_line_ends_and_a_byte_order_mark_are_taken(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbf" + SPEC.replace("\n", "\r\n").encode())
    assert _build("s.yaml", "m.json", tmp_path).returncode == 0


def test_options_that_are_missing_are_a_wrong_use() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build_manifest"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 2
    assert "--config" in done.stderr
