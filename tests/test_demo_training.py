"""The demo trains for real: data, gradient, checkpoints, and the two scripts as a job would start them."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import digits
import distill
import mlp

DEMO = Path(digits.__file__).parent


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO / script), *args], capture_output=True, text=True, timeout=150, check=False
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint by the real script, hardly trained."""
    path = tmp_path_factory.mktemp("demo") / "out" / "teacher.json"
    done = run("train_teacher.py", "--hidden", "6", "--epochs", "2", "--out", str(path))
    assert done.returncode == 0, done.stderr
    return path


def test_data_is_the_one_that_its_notice_describes() -> None:
    text = gzip.decompress(digits.DATA.read_bytes())
    assert hashlib.sha256(text).hexdigest() in (DEMO / "DATA.md").read_text(encoding="utf-8")
    data = digits.load()
    assert len(data.train) + len(data.test) == 1797
    for part in data:
        assert all(len(digit.pixels) == 64 and min(digit.pixels) >= 0 and max(digit.pixels) <= 1 for digit in part)
        counts = Counter(digit.label for digit in part)
        assert set(counts) == set(range(10))
        assert min(counts.values()) > 0.8 * len(part) / 10, "each digit has to be well represented"


def losses() -> list[Callable[[list[float]], mlp.Loss]]:
    answer = mlp.softmax([0.3 * digit - 1 for digit in range(10)], 2.0)
    return [
        partial(mlp.cross_entropy, wanted=mlp.one_hot(3)),
        partial(mlp.cross_entropy, wanted=answer, temperature=2.0),
        partial(distill.distillation, label=mlp.one_hot(7), answer=answer, lam=0.5, temperature=3.0),
        partial(distill.distillation, label=mlp.one_hot(0), answer=answer, lam=1.0, temperature=1.0),
    ]


@pytest.mark.parametrize("loss_of", losses(), ids=["hard", "soft", "distil", "teacher only"])
def test_gradient_is_what_finite_differences_give(loss_of: Callable[[list[float]], mlp.Loss]) -> None:
    rng = random.Random(5)
    network = mlp.Network.drawn(4, rng)
    pixels = digits.load().train[11].pixels
    gradient = network.gradient(pixels, loss_of)
    layers = [
        (network.hidden, gradient.hidden_delta, [*pixels, 1.0]),
        (network.output, gradient.output_delta, [*gradient.activity, 1.0]),
    ]
    step = 1e-5
    for layer, delta, inputs in layers:
        for unit, row in enumerate(layer):
            for index in {0, 20, 28, len(row) - 1} & set(range(len(row))):
                weight = row[index]
                row[index] = weight + step
                above = loss_of(network.logits(pixels)).value
                row[index] = weight - step
                below = loss_of(network.logits(pixels)).value
                row[index] = weight
                slope = (above - below) / (2 * step)
                assert math.isclose(delta[unit] * inputs[index], slope, rel_tol=1e-4, abs_tol=1e-8)


def test_a_step_down_the_slope_lowers_the_loss_of_that_example() -> None:
    network = mlp.Network.drawn(5, random.Random(1))
    pixels = digits.load().train[0].pixels
    for loss_of in losses():
        before = network.gradient(pixels, loss_of)
        network.descend(pixels, before, 0.01)
        assert network.gradient(pixels, loss_of).loss < before.loss


@given(st.lists(st.floats(-500, 500), min_size=10, max_size=10), st.floats(0.5, 10))
def test_softmax_is_a_probability_for_any_logits(logits: list[float], temperature: float) -> None:
    shares = mlp.softmax(logits, temperature)
    assert math.isclose(sum(shares), 1)
    assert all(0 <= share <= 1 for share in shares)
    assert shares[mlp.best(logits)] == max(shares)


@settings(max_examples=20, deadline=None)
@given(hidden=st.integers(1, 9), seed=st.integers())
def test_a_checkpoint_gives_the_same_network_again(
    tmp_path_factory: pytest.TempPathFactory, hidden: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    network = mlp.Network.drawn(hidden, random.Random(seed))
    network.save(folder / "new" / "net.json", {"N": hidden})
    again, facts = mlp.load(folder / "new" / "net.json")
    assert (again.hidden, again.output, facts) == (network.hidden, network.output, {"N": hidden})
    assert again.parameters == 64 * hidden + hidden + 10 * hidden + 10
    assert [path.name for path in (folder / "new").iterdir()] == ["net.json"], "no part file may stay"


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net.json"
    mlp.write_json(target, {"old": True})

    def full_disk(path: Path, text: str, encoding: str) -> int:
        with path.open("w", encoding=encoding) as file:
            file.write(text[:3])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space"):
        mlp.write_json(target, {"new": True})
    assert json.loads(target.read_text(encoding="utf-8")) == {"old": True}


def test_a_seed_makes_the_same_teacher_again_with_a_line_an_epoch(teacher: Path, tmp_path: Path) -> None:
    facts = mlp.load(teacher)[1]
    assert (facts["N"], facts["seed"]) == (6, 0)
    assert facts["accuracy"] > 0.4, "more than chance"
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    done = run("train_teacher.py", "--hidden", "6", "--epochs", "2", "--out", str(same))
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("epoch")] == ["1/2", "2/2"]
    run("train_teacher.py", "--hidden", "6", "--epochs", "2", "--out", str(other), "--seed", "1")
    assert same.read_bytes() == teacher.read_bytes()
    assert other.read_bytes() != teacher.read_bytes()


def test_a_teacher_of_the_sweep_reads_most_unseen_digits(tmp_path: Path) -> None:
    done = run("train_teacher.py", "--hidden", "16", "--out", str(tmp_path / "teacher.json"))
    assert done.returncode == 0, done.stderr
    assert mlp.load(tmp_path / "teacher.json")[1]["accuracy"] > 0.9


def test_student_writes_its_metrics(teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "metrics" / "student.json"
    arguments = ["--hidden", "5", "--epochs", "2", "--seed", "42", "--out", str(out)]
    done = run("distill.py", "--teacher", str(teacher), *arguments)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(out.read_text(encoding="utf-8"))
    assert metrics.pop("seconds") > 0
    assert metrics.pop("student_accuracy") > 0.3
    assert metrics == {
        "N": 6,
        "seed": 42,
        "teacher_accuracy": mlp.load(teacher)[1]["accuracy"],
        "student_parameters": 5 * 65 + 10 * 6,
        "teacher_parameters": 6 * 65 + 10 * 7,
    }


def test_a_student_of_its_teacher_alone_learns_to_answer_as_it_does(teacher: Path) -> None:
    """With `lam` 1 the labels do not count: only what the teacher answers can have taught it."""
    network = mlp.load(teacher)[0]
    data = digits.load()
    images = [digit._replace(label=0) for digit in data.train[:400]]
    teach = [
        partial(
            distill.distillation,
            label=mlp.one_hot(0),
            answer=mlp.softmax(network.logits(digit.pixels), 2.0),
            lam=1.0,
            temperature=2.0,
        )
        for digit in images
    ]
    student = mlp.Network.drawn(8, random.Random(3))
    mlp.train(student, images, teach, data.test[:1], epochs=6, rate=0.02, rng=random.Random(3))
    agree = sum(mlp.best(student.logits(d.pixels)) == mlp.best(network.logits(d.pixels)) for d in data.test)
    assert agree / len(data.test) > 0.8


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), ("{", "not valid JSON"), ("[]", "no checkpoint"), ('{"N": 16}', "no checkpoint")],
    ids=["missing", "broken", "list", "other file"],
)
def test_student_refuses_what_is_no_teacher_in_one_line(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "teacher.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = run("distill.py", "--teacher", str(path), "--seed", "1", "--out", str(tmp_path / "out.json"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert says in line
    assert str(path) in line
    assert not (tmp_path / "out.json").exists()


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    mlp.write_json(tmp_path / "pipe", {"loss": 1})
    assert os.read(end, 100) == b'{"loss": 1}\n'
    os.close(end)
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
