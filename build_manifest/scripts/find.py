"""Find the options of a script, by the library that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from build_manifest.scripts import (
    absl_options,
    argparse_options,
    click_options,
    dataclass_options,
    hydra_options,
    typer_options,
)
from build_manifest.scripts.hydra_options import Listing, Read
from build_manifest.scripts.options import Script
from build_manifest.scripts.syntax import Source, imported

_FURTHER = 20
"""So many modules beside a script are looked into."""
_READERS: tuple[Callable[[Source], Script | None], ...] = (
    typer_options.read,
    click_options.read,
    absl_options.read,
    dataclass_options.read,
    argparse_options.read,
)


def find(text: str, read_file: Read, listing: Listing) -> Script:
    """Return the options of a script, from its text; where it has none itself, those of a module of its project that it
    imports. `read_file` and `listing`: of what lies beside it. Raises SyntaxError and ValueError."""
    source = Source(text)
    found = hydra_options.read(source, read_file, listing) or _by_any(source)
    if found is not None:
        return found
    for name, other in _beside(source, read_file):
        try:
            found = _by_any(Source(other))
        except (SyntaxError, ValueError):
            continue
        if found is not None and found.options:
            return found._replace(notes=(*found.notes, f"its options are read in {name}"))
    return Script("")


def _by_any(source: Source) -> Script | None:
    return next((found for read in _READERS if (found := read(source)) is not None), None)


def _beside(source: Source, read_file: Read) -> Iterator[tuple[str, str]]:
    """Yield modules of the same project that a script imports, with their texts."""
    names = dict.fromkeys(name.lstrip(".").replace(".", "/") for name in imported(source.tree))
    for name in list(names)[:_FURTHER]:
        for file in (f"{name}.py", f"{name}/__init__.py") if name else ():
            text = read_file(file)
            if text is not None:
                yield file, text
