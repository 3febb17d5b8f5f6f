"""Draw docs/run.svg: the demo, run for real, as `wavequeue watch` shows it after so many students have completed.

Run it from the repository's root: `PYTHONPATH=. python tools/picture.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

from rich.console import Console

from queue_manager.core.layout import RunPaths
from skill.runs import digest, logs
from skill.terminal import frame

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, COMPLETED = 100, 22, 5


def main() -> None:
    """Run the demo, and keep the view of one moment."""
    command = [sys.executable, "-c", "import sys; from skill.cli.main import main; sys.exit(main())"]
    argv = [*command, "run", "manifests/demo.yaml", "--detach", "--json"]
    started = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = RunPaths.of(Path(json.loads(started.stdout)["directory"]))
    while True:
        document = json.loads(paths.state.read_text())
        if document["counts"].get("completed", 0) >= COMPLETED and document["counts"].get("running", 0) >= 2:
            break
        time.sleep(0.2)
    scene = frame.Scene(
        document, digest.digest(document), True, time.time(), lambda row: logs.last_line(Path(row["log"]))
    )
    console = Console(record=True, width=WIDTH, file=StringIO(), highlight=False)
    for line in frame.frame(scene, WIDTH, HEIGHT, frame.UNICODE):
        console.print(line)
    picture = ROOT / "docs" / "run.svg"
    picture.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="wavequeue run manifests/demo.yaml")
    # A picture that loads nothing from elsewhere.
    picture.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
    print(picture)


if __name__ == "__main__":
    main()
