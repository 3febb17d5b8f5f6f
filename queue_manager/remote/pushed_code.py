"""What the code that was pushed to this host is called where it came from: a copy has no repository, and so no commit.

`python -m queue_manager.remote.pushed_code FOLDER NAME` notes that the copy in FOLDER is the code NAME.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from queue_manager.adapters import code_identity
from queue_manager.adapters.code_identity import IsOutput
from queue_manager.adapters.files import make_directory, write_whole
from queue_manager.adapters.regular import read_regular

_NOTE = ".wavequeue/pushed_code.json"
_NAME = re.compile(r"[0-9a-f]{12}(\+[0-9a-f]{8})?")
_MOST = 4096


def identify(cwd: str, is_output: IsOutput) -> str | None:
    """The name of the code in `cwd`, see code_identity.identify; that of its source while the copy is unchanged."""
    found = code_identity.identify(cwd, is_output)
    return found if found is None else _names(cwd).get(found, found)


def note(cwd: str, name: str) -> None:
    """Write down that the copy in `cwd`, as it is now, is the code `name`. Raises OSError."""
    found = code_identity.identify(cwd, lambda _path: False)
    if found is not None and found.startswith(code_identity.FILES) and _NAME.fullmatch(name):
        file = Path(cwd, _NOTE)
        make_directory(file.parent)
        write_whole(file, [json.dumps({found: name}).encode() + b"\n"])


def _names(cwd: str) -> dict[str, str]:
    try:
        noted = json.loads(read_regular(Path(cwd, _NOTE), _MOST))
        return {key: name for key, name in noted.items() if isinstance(name, str) and _NAME.fullmatch(name)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Note it. Always 0: without the note the copy is known by its content."""
    folder, name = sys.argv[1:] if arguments is None else arguments
    try:
        note(os.path.expanduser(folder), name)
    except code_identity.UnknownCodeError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{folder}: {error.strerror}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
