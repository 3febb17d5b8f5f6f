"""LaTeX as it is installed here: a paper becomes a PDF, or LaTeX's own first error. Nothing else is run by it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from skill.common.files import make_directory
from skill.research import tex_syntax

PATIENCE = 170.0
"""Seconds for one paper."""
_OPTIONS = ("-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "-no-shell-escape")
_PASSES = 2
"""Runs of pdflatex after which references are right."""


class Typeset(NamedTuple):
    """What came of it: the PDF, or why there is none. `by`: the program."""

    by: str
    pdf: Path | None
    fault: str = ""


def typeset(folder: Path, main: str, out: Path) -> Typeset | None:
    """Make a PDF of `main` in a folder, with all that LaTeX writes in `out`. None where no LaTeX is installed."""
    program = next((name for name in ("latexmk", "pdflatex") if shutil.which(name)), None)
    if program is None:
        return None
    make_directory(out)
    if program == "latexmk":
        commands = [["latexmk", "-pdf", "-norc", *_OPTIONS, f"-outdir={out}", main]]
    else:
        commands = [["pdflatex", *_OPTIONS, f"-output-directory={out}", main]] * _PASSES
    # LaTeX writes nowhere but in `out`, and breaks no line of what it says.
    environment = {**os.environ, "openout_any": "p", "max_print_line": "4096", "error_line": "254"}
    try:
        for command in commands:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
            )
            if done.returncode != 0:
                output = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
                return Typeset(program, None, tex_syntax.first_error(output) or f"exit code {done.returncode}")
    except subprocess.TimeoutExpired:
        return Typeset(program, None, f"it took longer than {PATIENCE:g} s")
    pdf = out / Path(main).with_suffix(".pdf").name
    return Typeset(program, pdf if pdf.exists() else None, "" if pdf.exists() else "it made no PDF")
