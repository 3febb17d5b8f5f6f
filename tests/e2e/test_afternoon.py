"""A new user's afternoon in one shell: a script, a sweep in one command and no YAML, and the words to look after it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.e2e.runs import World, wait_for
from tests.e2e.terminal import Terminal

TRAIN = """
import argparse, json, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="out/run.json")
args = parser.parse_args()
print("step 1/2 loss", args.lr, flush=True)
while not Path("go").exists():
    time.sleep(0.05)
Path(args.out).write_text(json.dumps({"loss": args.lr * (1 + args.seed)}))
"""
SWEEP = (
    b"wq run --gpus 0 --poll 0.1 --output 'out/{id}.json' -- "
    b"python train.py --lr 1e-3,1e-2 --seed 0..2 --out out/{id}.json\n"
)


def test_from_a_script_to_a_finished_sweep_without_yaml(world: World) -> None:
    place = world.root / "toy"
    (place / "out").mkdir(parents=True)
    (place / "train.py").write_text(TRAIN)
    commands = world.root / "bin"
    commands.mkdir()
    (commands / "python").symlink_to(sys.executable)
    environment = {
        **world.environment,
        "PATH": f"{commands}:{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "PS1": "your turn> ",
    }
    shell = Terminal(["bash", "--norc", "-i"], place, environment)

    def typed(keys: bytes, shows: str) -> str:
        """What the terminal shows after these keys, up to `shows`."""
        shell.text = ""
        shell.type(keys)
        shell.wait_for(shows)
        return shell.text

    # The arguments of echo are not the words waited for, which the terminal shows as they are typed.
    typed(b"eval \"$(wq completion bash)\"; echo re''ady\n", "ready")
    typed(SWEEP, "running")
    typed(b"?", "this help")
    typed(b"q", "train_lr1e-3_seed0")
    typed(b"q", "left the view")
    shell.wait_for("your turn> ")  # completion is then that of bash
    typed(b"wq why train_lr1e-2_seed\t\t", "train_lr1e-2_seed2")
    typed(b"\x15wq ls\n", "0/6")
    (place / "go").touch()
    assert "6 of 6 jobs completed" in typed(b"wq wait; echo co''de $?\n", "code 0")
    wait_for(lambda: len(list((place / "out").iterdir())) == 6, say="all results")
    listed = typed(b"wq ls; echo co''de $?\n", "code 0")
    assert re.search(r"toy-\S+ +here +finished +6/6", listed), listed
    results = typed(b"wq results --by lr; echo co''de $?\n", "code 0")
    assert [line.split() for line in results.splitlines() if line.startswith("1e-")] == [
        ["1e-3", "0.0020", "±", "0.0010", "3", "-"],
        ["1e-2", "0.020", "±", "0.010", "3", "-"],
    ], results
    assert not list(place.glob("*.yaml"))
    shell.type(b"exit 0\n")
    assert shell.end() == 0
