r"""Whether a LaTeX text holds together, where no LaTeX is installed: braces, environments, its files.
Also the first error in LaTeX's own output. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\\(?:begin|end)\s*\{([^{}]*)\}|\\(?:input|include)\s*\{([^{}]*)\}|\\.|[{}]|\n", re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*")
_VERBATIM = re.compile(
    r"\\begin\{(verbatim\*?|lstlisting|comment)\}.*?\\end\{\1\}|\\verb\*?([^A-Za-z\s]).*?\2", re.DOTALL
)
_ERROR = re.compile(r"^(?:\./)?([^:\n]+\.\w+):(\d+): (.*)$|^! (.*)$", re.MULTILINE)


def fault(file: str, text: str, exists: Callable[[str], bool]) -> str | None:
    r"""The first thing that does not hold, with file and line; None if all does. `exists`: whether a file that is taken
    in with \input is there, by its name with its ending."""
    cleared = _VERBATIM.sub(lambda found: "\n" * found[0].count("\n"), text)
    cleared = _COMMENT.sub(r"\1", cleared)
    opened: list[tuple[str, int]] = []
    line = 1
    for match in _TOKEN.finditer(cleared):
        token, here = match[0], line
        line += token.count("\n")
        if token.startswith(r"\begin"):
            opened.append((match[1], here))
        elif token.startswith(r"\end"):
            words = _closes(opened, match[1])
            if words:
                return f"{file}:{here}: \\end{{{match[1]}}} {words}"
        elif match[2] is not None:
            name = match[2].strip()
            name = name if name.endswith(".tex") else f"{name}.tex"
            if not exists(name):
                return f"{file}:{here}: there is no file {name}; fill the paper with: wavequeue research publish"
        elif token == "{":
            opened.append(("{", here))
        elif token == "}":
            if not opened or opened[-1][0] != "{":
                return f"{file}:{here}: a }} closes no {{"
            opened.pop()
    if opened:
        name, here = opened[-1]
        return f"{file}:{here}: {name if name == '{' else f'begin{{{name}}}'} is never closed"
    return None


def _closes(opened: list[tuple[str, int]], name: str) -> str | None:
    if not opened:
        return "closes nothing"
    inner, at = opened[-1]
    if inner != name:
        what = "a {" if inner == "{" else f"\\begin{{{inner}}}"
        return f"comes before {what} of line {at} is closed"
    opened.pop()
    return None


def first_error(output: str) -> str | None:
    """The first error in LaTeX's output, with file and line where it names them."""
    found = _ERROR.search(output)
    if found is None:
        return None
    if found[1]:
        rest = output[found.end() :].lstrip("\n").partition("\n")[0]
        detail = f" ({rest.strip()})" if re.match(r"l\.\d+ ", rest) else ""
        return f"{found[1]}:{found[2]}: {found[3]}{detail}"
    return found[4]
