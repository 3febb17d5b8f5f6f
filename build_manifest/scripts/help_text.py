"""Options of a script by what it prints with --help, in the form of argparse, click, typer, or absl."""

from __future__ import annotations

import re
from collections.abc import Iterator

from build_manifest.scripts.options import FLAG, VALUE, Option, Script

_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_COLUMNS = re.compile(r"\s{2,}")
_VALUE = re.compile(r"\{.*\}|\[.*\]|<.*>|[A-Z][A-Z0-9_.|:]*")
_SHORT = re.compile(r"-\w")
_DEFAULT = re.compile(r"[(\[](?:[^)\]]*; *)?default:? *'?([^')\];]+)", re.IGNORECASE)
_REQUIRED = re.compile(r"[(\[][^)\]]*\brequired\b", re.IGNORECASE)
_OWN = ("help", "version", "helpfull", "helpshort", "helpxml", "install-completion", "show-completion")
_BOX = " │|*"
_MOST = 6
_HELP = 120


def read(text: str) -> Script:
    """Return the options that a help lists."""
    lines = [line.rstrip(" │") for line in _COLOURS.sub("", text).splitlines()]
    options: dict[str, Option] = {}
    for number, line in enumerate(lines):
        option = _option(line, lines[number + 1 :])
        if option is not None and option.name not in _OWN:
            options.setdefault(option.name, option)
    return Script("--help", tuple(options.values()))


def _option(line: str, further: list[str]) -> Option | None:
    bare = line.strip(_BOX)
    if not bare.startswith("-") or (not line[:1].isspace() and line[:1] not in _BOX):
        return None
    head, *columns = _COLUMNS.split(bare)
    head, colon, text = head.partition(": ") if re.match(r"--[^ ]+:(?: |$)", head) else (head, "", "")
    words = re.sub(r", |/(?=-)", " ", head.rstrip(":")).split()
    names = [word.partition("=")[0] for word in words if re.match(r"--[\w[]", word)]
    if not names:
        return None
    while columns and (columns[0].startswith("-") or _VALUE.fullmatch(columns[0])):  # typer has columns for these
        words += columns.pop(0).split()
    is_switch = any(word.startswith("--no-") for word in words) or names[0].startswith("--[no]")
    value = next((word for word in words if _VALUE.fullmatch(word.partition("=")[2] or word)), None)
    help_words = " ".join(" ".join([text, *columns, *_continued(further)]).split())
    name = names[0].removeprefix("--").removeprefix("[no]")
    is_flag = is_switch or (value is None and not colon and not head.endswith(":"))
    default = _DEFAULT.search(help_words)
    kind = (value or "").partition("=")[2] or value or ""
    return Option(
        name,
        f"--{name} ",
        FLAG if is_flag else VALUE,
        None if is_flag or default is None or default[1] == "None" else default[1].strip(),
        tuple(re.split(r"[|,]", kind.strip("{[]}"))) if kind[:1] in ("{", "[") else (),
        bool(_REQUIRED.search(help_words)) and not is_flag,
        kind.lower() if kind[:1].isalpha() and kind.lower() != name.replace("-", "_") else "",
        help_words[:_HELP],
    )


def _continued(lines: list[str]) -> Iterator[str]:
    """Return the further lines of an option's help."""
    for line in lines[:_MOST]:
        bare = line.strip(_BOX)
        if not bare or bare.startswith("-") or not line[:1].isspace():
            return
        yield bare
