"""Write the spec to start from for a script whose options are known: a command, a grid and an output, with comments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from build_manifest.names import KEY, RESERVED
from build_manifest.scripts.options import FLAG, VALUE, Option, Script
from build_manifest.written_spec import EACH_ID, literal, phase_name, project_name, quoted, value

TO_WRITE = "WRITE_A_VALUE"
"""What stands for a value that a script needs and nobody but its user knows."""
_SEEDS = ("seed", "random_seed", "rng_seed", "random_state")
_RATES = ("lr", "learning_rate", "base_lr", "eta")
_FILES = (
    "out", "output", "output_file", "out_file", "outfile", "output_path", "out_path", "save_path", "save_to",
    "results_file", "result_file", "metrics_file", "save", "results", "result", "save_file",
)  # fmt: skip
_FOLDERS = (
    "output_dir", "out_dir", "outdir", "save_dir", "results_dir", "result_dir", "exp_dir", "experiment_dir", "work_dir",
    "workdir", "logdir", "log_dir", "checkpoint_dir", "ckpt_dir", "model_dir", "run_dir", "dest",
    "default_root_dir",
)  # fmt: skip
_ON_GPU = re.compile(
    r"^\s*(?:import|from)\s+(?:torch|tensorflow|jax|flax|cupy|keras|transformers|lightning|pytorch_lightning|paddle|mxnet"
    r"|accelerate|deepspeed|vllm)\b|cuda",
    re.MULTILINE,
)
_LISTED = 40
_WIDTH = 44


def text(script: Script, source: str, file: str, spec: str, project: str) -> str:
    """Write the spec. `source`: the script's text; `file`: its path from the spec; `spec`: the name of the spec's file;
    `project`: any words. It builds, whatever the script says."""
    options = [_joined(one) for one in script.options]
    grid = _grid(options)
    output = _output(script, options)
    keys = _keys([*grid, *options])
    needed = [one for one in options if one.required and one.default is None and one not in grid and one is not output]
    target = "" if output is None else _target(output)
    given = {one: f"{one.before}${{{keys[one]}}}" for one in [*(one for one in needed if one.before), *grid]}
    if output is not None:
        given[output] = f"{output.before}{target}"
    given |= {one: f"${{{keys[one]}}}" for one in needed if not one.before}
    command = ["python", shlex.quote(file), *(typed for one, typed in given.items() if one.outer), script.command]
    command += [typed for one, typed in given.items() if not one.outer]
    command = [word for word in command if word]
    if script.library == "Hydra":
        target = f"out/${{{EACH_ID}}}"
        command.append(f"hydra.run.dir={target}")
    is_folder = script.library == "Hydra" or (output is not None and _is_folder(output))
    name = phase_name([file])
    lines = [*_head(script, file, spec), f"project: {value(project_name(project))}", "", "phases:", f"  - name: {name}"]
    rows = [(f"{keys[one]}: {_values(one)}", _about(one)) for one in grid]
    for one in needed:
        about = "needed" if one.choices else "needed: write its value"
        rows.append((f"{keys[one]}: {_values(one) if one.choices else TO_WRITE}", f"{_about(one)}; {about}"))
    if rows:
        lines.append("    grid:                       # one job for each combination of these values")
        lines += [_row("      ", text, about) for text, about in rows]
    else:
        lines.append("    # grid: {seed: [0, 1, 2]}   # one job for each value; write ${seed} into cmd")
    lines += ["    template:", *_command_lines(command, target, is_folder=is_folder)]
    lines += _output_lines(output, target, file, is_folder=is_folder)
    lines.append(_gpus(source))
    left = [one for one in options if one not in grid and one not in needed and one is not output]
    lines += _left(left, keys)
    return "\n".join(lines) + "\n"


def _joined(one: Option) -> Option:
    """Return an option whose value begins with a dash, which argparse would take for another option."""
    joins = one.before.startswith("--") and one.before.endswith(" ") and (one.default or "").startswith("-")
    return one._replace(before=f"{one.before.strip()}=") if joins else one


def to_write(spec_text: str) -> list[str]:
    """Return the keys of a spec of ours whose values are to be written first."""
    return re.findall(rf"^\s+([\w.-]+): {TO_WRITE}\b", spec_text, re.MULTILINE)


def _head(script: Script, file: str, spec: str) -> list[str]:
    how = {"": "no options were found in it", "--help": "by what it prints with --help"}.get(
        script.library, f"its options are read with {script.library}"
    )
    lines = [f"# A sweep of {_line(file)}: {how}. See what it would do, then run it:"]
    lines += [f"#   wavequeue plan {_line(spec)}", f"#   wavequeue run {_line(spec)}"]
    if script.others:
        lines.append(f"# Its other commands: {_line(', '.join(script.others))}")
    return [*lines, *(f"# Note: {_line(note)}" for note in script.notes)]


def _grid(options: Sequence[Option]) -> list[Option]:
    """Return the options to vary at first: the learning rate and the seed, else the first with several values."""
    by_name = {_plain(one.name): one for one in reversed(options) if one.kind == VALUE}
    rate = next((by_name[name] for name in _RATES if name in by_name), None)
    rate = rate or next((one for name, one in by_name.items() if name.endswith(("_lr", ".lr", "learning_rate"))), None)
    seed = next((by_name[name] for name in _SEEDS if name in by_name), None)
    seed = seed or next((one for name, one in by_name.items() if name.endswith((".seed", "_seed"))), None)
    found = [one for one in (rate, seed) if one is not None and one.before]
    if found:
        return found
    values = [one for one in options if one.kind == VALUE and one.before]
    return [one for one in values if len(one.choices) > 1][:1] or [one for one in values if _number(one.default)][:1]


def _output(script: Script, options: Sequence[Option]) -> Option | None:
    if script.library == "Hydra":
        return None
    by_name = {_plain(one.name): one for one in reversed(options) if one.kind == VALUE and one.before}
    return next((by_name[name] for name in (*_FILES, *_FOLDERS) if name in by_name), None)


def _is_folder(option: Option) -> bool:
    default = option.default or ""
    if _plain(option.name) in _FOLDERS:
        return True
    return bool(default) and "." not in default.rstrip("/").rsplit("/", 1)[-1]


def _target(output: Option) -> str:
    """Say where a job writes, by its id."""
    suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", output.default or "")
    return f"out/${{{EACH_ID}}}" if _is_folder(output) else f"out/${{{EACH_ID}}}{suffix[0] if suffix else '.json'}"


def _keys(options: Sequence[Option]) -> dict[Option, str]:
    """Return a key of the grid for each option."""
    found: dict[Option, str] = {}
    for one in options:
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", one.name).strip("._") or "value"
        name = name if KEY.fullmatch(name) else f"x_{name}".replace(".", "_")
        while name in (*RESERVED, EACH_ID) or (name in found.values() and one not in found):
            name += "_"
        found.setdefault(one, name)
    return found


def _values(one: Option) -> str:
    """Return the values that a sweep begins with, as YAML."""
    plain = _plain(one.name)
    if any(plain == name or plain.endswith((f"_{name}", f".{name}")) for name in _SEEDS):
        return "0..2"
    if one.choices:
        return f"[{', '.join(value(literal(choice)) for choice in one.choices[:_LISTED])}]"
    number = _number(one.default)
    if number and any(plain == name or plain.endswith((f"_{name}", f".{name}")) for name in _RATES):
        return f"[{one.default}, {_tenth(number, one.default or '')}]"
    if one.default is not None:
        return f"[{value(literal(one.default))}]"
    return "[1e-3, 1e-4]" if plain in _RATES or plain.endswith(("lr", "learning_rate")) else TO_WRITE


def _tenth(number: Decimal, written: str) -> str:
    tenth = number / 10
    if "e" in written.lower():
        return re.sub(r"(?:\.0*)?E([+-])0*", r"e\1", f"{tenth.normalize():E}").replace("e+", "e")
    return f"{tenth.normalize():f}"


def _number(written: str | None) -> Decimal | None:
    try:
        found = Decimal((written or "").replace("_", ""))
    except InvalidOperation:
        return None
    return found if found.is_finite() and re.fullmatch(r"[0-9.eE+-]+", written or "") else None


def _about(one: Option) -> str:
    """Return what is known of an option, for a comment."""
    option = one.before.strip(" =") or "by its place"
    facts = ["" if one.choices else one.type, "" if one.default is None else f"default {one.default}"]
    if one.choices:
        facts.append(f"one of {', '.join(one.choices[:8])}{', …' if len(one.choices) > 8 else ''}")
    known = ", ".join(fact for fact in facts if fact)
    return _line(option + (f" ({known})" if known else "") + (f": {one.help.rstrip('.')}" if one.help else ""))


def _command_lines(command: Sequence[str], target: str, *, is_folder: bool) -> list[str]:
    folder = "" if not target else f"mkdir -p {target if is_folder else 'out'} && "
    return [f"      cmd: {quoted(folder + ' '.join(command))}"]


def _output_lines(output: Option | None, target: str, file: str, *, is_folder: bool) -> list[str]:
    if not target:
        about = f"no option of {file} says where it writes; write the file here"
        return [_row("      # ", 'expected_output: "out/${id}.json"', about)]
    pattern = f"{target}/*" if is_folder else target
    what = "written by Hydra" if output is None else f"{output.before.strip(' =')} of {file}"
    return [_row("      ", f"expected_output: {quoted(pattern)}", f"{what}: a job is completed only when it is there")]


def _gpus(source: str) -> str:
    if _ON_GPU.search(source):
        return _row("      # ", "gpus: 1", "GPUs that each job has to itself: 1 by default")
    return _row("      ", "gpus: 0", "the script names no library for GPUs; leave it out for one GPU a job")


def _left(options: Sequence[Option], keys: dict[Option, str]) -> list[str]:
    if not options:
        return []
    lines = ["", "# To vary another option, write its values under grid, and put the placeholders named here into cmd:"]
    for one in options[:_LISTED]:
        if one.kind == FLAG and one.before.endswith("=") and "--" not in one.before:
            shown = f"{keys[one]}: [true, false]"
        elif one.kind == FLAG:
            lines.append(f"#   a flag, only for cmd: {_about(one)}")
            continue
        else:
            shown = f"{keys[one]}: {_values(one) if one.kind == VALUE else '[…]'}".replace(TO_WRITE, "…")
        more = f" {_about(one)}".replace("\n", " ")
        lines.append(f"#   {_line(shown)}  in cmd: {one.before}${{{keys[one]}}}  #{more}")
    if len(options) > _LISTED:
        lines.append(f"#   … and {len(options) - _LISTED} more")
    return lines


def _row(indent: str, text: str, about: str) -> str:
    return f"{indent}{text:<{_WIDTH - len(indent)}}  # {about}" if about else f"{indent}{text}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _line(words: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in words)
