"""The command: `python -m build_manifest --config SPEC --output FILE`."""

from __future__ import annotations

import argparse
import os
import sys

from build_manifest.builder import build, read
from build_manifest.faults import SpecErrors
from queue_manager.core.manifest import encode
from queue_manager.core.terminal_text import escaped


def main(arguments: list[str] | None = None) -> int:
    """Build a manifest. Returns the exit code: 0, or 2 with a message for each fault and nothing written."""
    parser = argparse.ArgumentParser(
        prog="python -m build_manifest", description="Expand a spec (YAML or JSON) into the manifest of a run."
    )
    parser.add_argument("--config", required=True, metavar="SPEC", help="the spec to read")
    parser.add_argument("--output", required=True, metavar="FILE", help="the manifest to write")
    options = parser.parse_args(arguments)
    try:
        built = build(read(options.config), options.config)
        if os.path.exists(options.output):
            if os.path.samefile(options.config, options.output):
                print(f"{options.output} is the spec itself; write the manifest to another file", file=sys.stderr)
                return 2
            if not os.path.isfile(options.output):
                print(f"{options.output} is not a regular file; write the manifest to another path", file=sys.stderr)
                return 2
        _write(options.output, encode(built.manifest))
    except SpecErrors as error:
        print(escaped(str(error)), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{options.output} cannot be written: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 2
    for warning in built.warnings:
        print(escaped(warning), file=sys.stderr)
    jobs, phases = len(built.manifest.jobs), len(built.manifest.phases)
    print(f"{jobs} job{'s' * (jobs != 1)} in {phases} phase{'s' * (phases != 1)}: {options.output}")
    return 0


def _write(path: str, text: str) -> None:
    """Write the whole file or nothing."""
    path = os.path.realpath(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            os.fchmod(file.fileno(), 0o600)  # it holds the jobs' variables, among them perhaps a key
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


if __name__ == "__main__":
    sys.exit(main())
