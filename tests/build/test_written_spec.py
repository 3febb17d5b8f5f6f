"""Specs that are made of commands: which jobs come of them, and what is said of those that make none."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from build_manifest import SpecErrors, build, command_grid, command_lines, command_table
from build_manifest.default_ids import of_commands
from build_manifest.faults import Shown
from build_manifest.written_spec import NOTHING_SAID, JobOptions, WrittenSpec, phase_name, project_name
from queue_manager.core.manifest import JobSpec


def jobs_of(made: WrittenSpec, file: str = "this command", shown: Shown = Shown.NAMES) -> list[JobSpec]:
    """The jobs of a spec, which are the same in the text for people."""
    built = build(made.built, file, shown).manifest
    assert build(made.saved, file, shown).manifest == built
    assert build(made.built, file, shown).warnings == []
    return list(built.jobs)


def grid(*words: str, options: JobOptions = NOTHING_SAID) -> list[JobSpec]:
    return jobs_of(command_grid.spec(words, options, "toy"))


def lines(text: str, options: JobOptions = NOTHING_SAID) -> list[JobSpec]:
    return jobs_of(command_lines.spec(text, "cmds.txt", options, "toy"), "cmds.txt", Shown.LINES)


def table(text: str, command: str, options: JobOptions = NOTHING_SAID) -> list[JobSpec]:
    return jobs_of(command_table.spec(text, "t.csv", command, options, "toy"), "t.csv")


@pytest.mark.parametrize(
    ("command", "ids", "commands"),
    [
        ("python train.py", ["train"], ["python train.py"]),
        (
            "python train.py --lr 1e-3,1e-2 --seed 0..1",
            ["train_lr1e-3_seed0", "train_lr1e-3_seed1", "train_lr1e-2_seed0", "train_lr1e-2_seed1"],
            [f"python train.py --lr {lr} --seed {seed}" for lr in ("1e-3", "1e-2") for seed in (0, 1)],
        ),
        ("./run.sh --n=0..2..2", ["run_n0", "run_n2"], ["./run.sh --n=0", "./run.sh --n=2"]),
        ("python -m pkg.fit model.lr=0.1,0.2", ["pkg.fit_model.lr0.1", "pkg.fit_model.lr0.2"], None),
        ("echo 1,2 3,4", ["echo_arg11_arg23", "echo_arg11_arg24", "echo_arg12_arg23", "echo_arg12_arg24"], None),
        ("fit --seed 0..1,7", ["fit_seed0", "fit_seed1", "fit_seed7"], None),
        ("fit --x 'range(2)'", ["fit_x0", "fit_x1"], None),
        (
            "fit --gpu 0,1 --GPU 2,3 --id 4,5",
            None,
            [f"fit --gpu {a} --GPU {b} --id {c}" for a in "01" for b in "23" for c in "45"],
        ),
        (
            "fit --lr 1,2 --out o/{lr}.json --keep {x}",
            ["fit_lr1", "fit_lr2"],
            ["fit --lr 1 --out o/1.json --keep '{x}'", "fit --lr 2 --out o/2.json --keep '{x}'"],
        ),
        ("fit --lr 1,2 --out {id}.json", None, ["fit --lr 1 --out fit_lr1.json", "fit --lr 2 --out fit_lr2.json"]),
        (
            r"fit --text 'a\, b' --betas '0.9\,0.99,0.8\,0.9'",
            None,
            ["fit --text 'a, b' --betas 0.9,0.99", "fit --text 'a, b' --betas 0.8,0.9"],
        ),
        (r"fit --range '0\..4'", ["fit"], ["fit --range 0..4"]),
        (
            "fit '' '${HOME} $x' '{{ y }}' '{% if %}' \"it's\"",
            ["fit"],
            ["fit '' '${HOME} $x' '{{ y }}' '{% if %}' 'it'\"'\"'s'"],
        ),
        (
            "fit --flag true,no --word yes,null",
            None,
            [f"fit --flag {a} --word {b}" for a in ("true", "no") for b in ("yes", "null")],
        ),
        ("'python train.py --seed 0..1'", ["train_seed0", "train_seed1"], None),
        ("fit --seed 1..-1 --x -2,-0.5", None, [f"fit --seed {a} --x {b}" for a in (1, 0, -1) for b in (-2, -0.5)]),
        (r"bash -c 'fit --lr 1\,2 | tee x'", None, ["bash -c 'fit --lr 1,2 | tee x'"]),
        (
            "fit --lr é,ü,-,e",
            ["fit_lr-_4a99557e", "fit_lr-_607474ca", "fit_lr-", "fit_lre"],
            ["fit --lr 'é'", "fit --lr 'ü'", "fit --lr -", "fit --lr e"],
        ),
    ],
)
def test_a_command_is_a_grid_of_its_lists(command: str, ids: list[str] | None, commands: list[str] | None) -> None:
    made = grid(*shlex.split(command))
    assert ids is None or [job.id for job in made] == ids
    assert commands is None or [job.cmd for job in made] == commands


def test_a_literal_word_reaches_the_program_as_it_was_typed() -> None:
    words = ["fit", "a b", "$HOME", "${x}", "{{", "}}", "{%", "'", '"', "\\", "`", "*", "\n", "{id", "é"]
    (job,) = grid(*words)
    assert shlex.split(job.cmd) == words


def test_what_is_said_of_each_job_of_a_command() -> None:
    options = JobOptions("{lr}_{seed}", 2, 9000, "out/{lr}/{id}.json")
    made = grid("python", "train.py", "--lr", "0.1,0.2", "--seed", "0..1", options=options)
    assert [job.id for job in made] == ["0.1_0", "0.1_1", "0.2_0", "0.2_1"]
    assert made[1].expected_output == "out/0.1/0.1_1.json"
    assert {(job.gpus, job.gpu_mem_mib) for job in made} == {(2, 9000)}
    assert made[3].params == {"lr": "0.2", "seed": "1"}


def test_lines_are_jobs_named_after_their_commands() -> None:
    made = lines("# two\npython train.py --lr 1e-3 --seed 0\n\n  VAR=${HOME} python a/fit.py 'x y' # {{no}}\n")
    assert [job.id for job in made] == ["train_lr1e-3_seed0", "VAR=-HOME_a-fit_x_y_no"]
    assert [job.cmd for job in made] == [
        "python train.py --lr 1e-3 --seed 0",
        "VAR=${HOME} python a/fit.py 'x y' # {{no}}",
    ]
    (one,) = lines("true", JobOptions(gpus=0, expected_output="{id}.json"))
    assert (one.gpus, one.expected_output) == (0, "true.json")


def test_an_id_of_a_command_depends_on_it_alone() -> None:
    few, many = of_commands(["fit --lr 1"]), of_commands(["fit --lr 2", "fit --lr 1", "fit --lr 3"])
    assert few[0] == many[1] == "fit_lr1"
    close = of_commands(["fit a/b", "fit a-b", "fit a/b"])
    assert len(set(close)) == 2
    assert close[0] == close[2]
    long = of_commands([f"fit --text {'x' * 200}", f"fit --text {'x' * 201}", "???"])
    assert len(set(long)) == 3
    assert all(len(name) <= 60 for name in long)


def test_jobs_of_a_spec_may_be_commands() -> None:
    made = build("project: p\njobs:\n  - python train.py --lr 1\n  - {id: b, cmd: echo}\n", "s.yaml").manifest.jobs
    assert [(job.id, job.cmd) for job in made] == [("train_lr1", "python train.py --lr 1"), ("b", "echo")]


def test_rows_are_jobs_with_the_columns_that_are_named() -> None:
    text = "lr,seed,note\n1e-3,0,hey there\n1e-2,1,\n"
    made = table(text, "fit --lr {lr} --seed {seed} {{x}} ${HOME}", JobOptions(expected_output="{lr}.json"))
    assert [job.id for job in made] == ["fit_lr1e-3_seed0", "fit_lr1e-2_seed1"]
    assert made[0].cmd == "fit --lr 1e-3 --seed 0 {x} ${HOME}"
    assert made[1].params == {"lr": "1e-2", "seed": "1"}
    assert [job.cmd for job in table(text, "say {note}")] == ["say 'hey there'", "say ''"]
    with_id = table("id;a\nx;0..4\ny;2\n", "fit {a} > {id}.txt")
    assert [(job.id, job.cmd) for job in with_id] == [("x", "fit 0..4 > x.txt"), ("y", "fit 2 > y.txt")]
    assert [job.id for job in table("id\ta\nx\t1\ny\t2\n", "fit {a}", JobOptions("j{id}"))] == ["jx", "jy"]


def test_how_many_jobs_there_are_is_known_before_they_are_built() -> None:
    many = command_grid.spec(["fit", "--a", "0..999", "--b", "1,5..7,x"], NOTHING_SAID, "toy")
    assert many.jobs == 5000
    assert command_table.spec("a,b\n0..4,1\n2,2\n", "t.csv", "fit {a} {b}", NOTHING_SAID, "toy").jobs == 2
    assert command_table.spec("a\n1\n", "t.csv", "fit", NOTHING_SAID, "toy").jobs == 1
    assert command_lines.spec("a\nb\n#c\n", "c.txt", NOTHING_SAID, "toy").jobs == 2


def test_ids_whose_files_are_one_on_a_mac_are_named() -> None:
    made = command_grid.spec(["fit", "--opt", "adam,Adam"], NOTHING_SAID, "toy")
    (warning,) = build(made.built, "x").warnings
    assert "the ids 'fit_optadam' and 'fit_optAdam' differ in case only" in warning


def same_id() -> list[JobSpec]:
    return grid("fit", "--lr", "1,2", "--seed", "0..1", options=JobOptions("{lr}"))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: grid("fit", "--text", "a, b"),
            r"--text 'a, b' could be one value that has a comma, or a list of values; for one value write a",
        ),
        (
            lambda: grid("fit", "--text", "a, b"),
            r"before each comma: --text 'a\, b'; for a list write its values without",
        ),
        (
            lambda: grid("fit", "'a, b'"),
            "this command: ''\"'\"'a, b'\"'\"'' could be one value",
        ),
        (lambda: grid("fit", "--x=[1,2]"), r"for one value write a backslash before each comma: '--x=[1\,2]'"),
        (lambda: grid("fit", "1,"), "could be one value that has a comma"),
        (lambda: grid("fit", "--lr", "0.1..0.5"), "this command: '0.1..0.5' looks like a range but is not one"),
        (same_id, "this command: two jobs have the id '1': lr=1, seed=0 and lr=1, seed=1; add {seed} to the id"),
        (lambda: grid("fit", "--lr", "1,1"), "this command: 'lr' has the value '1' twice; keep one of them"),
        (
            lambda: grid("fit", "--lr", "1,2", options=JobOptions("{seed}")),
            "--id: no list of the command has the name 'seed'; there are: lr",
        ),
        (lambda: grid("fit --lr 1,2 | tee x"), "write: bash -c 'fit --lr 1,2 | tee x'"),
        (lambda: grid("fit 'a"), "close the quote"),
        (
            lambda: grid("fit", "--seed 0..4"),
            "the quotes make '--seed 0..4' one word, and the list in it makes no jobs",
        ),
        (lambda: grid("python", "fit.py --lr 1,2"), r"leave them out; for no list write 1\,2"),
        (lambda: grid("bash", "-c", "fit --x=0..1 | tee y"), r"in a file of commands; for no list write 0\..1"),
        (lambda: grid("fit", "--seed", "0..1000000"), "'0..1000000' has too many values; write at most 1,000,000"),
        (lambda: grid("fit", "--a", "0..1999", "--b", "0..999"), "this grid makes 2,000,000 jobs (2000 x 1000)"),
        (lambda: table("lr\n1\n", "fit 'a {lr}"), "--cmd: a ' opens in \"fit 'a {lr}\" and is never closed"),
        (lambda: table("lr\n1\n", " "), "--cmd: it is empty; write the command of each row"),
        (lambda: lines("a\n\nb 'c\n"), "cmds.txt:3:3: a ' opens here and is never closed; close it"),
        (lambda: lines("a \\\nb\n"), "cmds.txt:1:3: this line ends with a backslash; a job is one line: join the two"),
        (lambda: lines("a $(b\n"), "cmds.txt:1:1: a ( begins here and does not end on this line"),
        (lambda: lines("cat <<END\n"), "cmds.txt:1:1: a here-document begins here"),
        (lambda: lines("a\n#\na\n"), "cmds.txt:3:1: this line has the command of line 1 again"),
        (lambda: lines("# a\n"), "cmds.txt: there is no command in it; write a command on each line"),
        (lambda: lines("a\nb &\n"), "cmds.txt:2:1: this command ends while its work continues in the background"),
        (lambda: lines("a", JobOptions("x")), "cmds.txt: --id is for lists and tables"),
        (lambda: table("lr\n1\n", "fit {lr} {x}"), "t.csv:1:1: --cmd has {x}, but there is no column 'x'; the"),
        (
            lambda: table("lr\n1\n", "fit {lr}", JobOptions("{x}")),
            "t.csv:1:1: --id has {x}, but there is no column 'x'",
        ),
        (lambda: table("a,b\n1,2\n3\n", "fit {a}"), "t.csv:3:1: this row has another number of cells than the head"),
        (lambda: table("a,a\n1,2\n", "fit {a}"), "t.csv:1:1: two columns are called 'a'"),
        (lambda: table("a\n", "fit {a}"), "t.csv: the table has no rows"),
        (
            lambda: table("a\n1\n2\n", "fit"),
            "t.csv:1:1: --cmd names no column, so all 2 rows would run the same command",
        ),
        (lambda: table('a\n"1\n', "fit {a}"), "the table cannot be read"),
        (lambda: table("GPU\n1\n", "fit {GPU}"), "t.csv:1:1: the column 'GPU' cannot be the name of a key"),
        (lambda: table("a,b\n1,x\n1,y\n", "fit {a} {b}", JobOptions("{a}")), "two jobs have the id '1'"),
    ],
)
def test_what_makes_no_jobs_says_why_and_what_to_write(make: Callable[[], object], says: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        make()
    assert says in str(caught.value)


def test_names_of_projects_and_phases() -> None:
    assert project_name("my runs: 2") == "my_runs_2"
    assert project_name("...") == "experiment"
    names = ["uv run train.py", "torchrun --nproc 2 a/b.py", "bash -c x", "python -m a.b", "./fit", "A=1 fit", "-x"]
    assert [phase_name(name.split()) for name in names] == ["train", "b", "x", "a.b", "fit", "fit", "jobs"]
