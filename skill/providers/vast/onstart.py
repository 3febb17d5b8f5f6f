"""The start script of the instances that we rent: Vast.ai runs it at every start of the container. Pure.

After a stop and a start all processes are gone and all files are there. So it brings back the managers of whatever runs
have something left to do, with nobody there to ask.
"""

from __future__ import annotations

from queue_manager.core.layout import CONDA_BASES

LIMIT = 4000
"""Characters that a start script may have; Vast.ai's own figures begin at 4048."""
_PYTHONS = ("/venv/main/bin/python3", *(f"{base}/bin/python3" for base in CONDA_BASES), "python3", "/usr/bin/python3")

# The runtime that was pushed last goes first; one that is still being pushed has another name. Whatever does not serve,
# or could not start a manager, the next one is tried: doing it twice is harmless.
ONSTART = f"""\
touch ~/.no_auto_tmux
wavequeue_resume() {{
    cd
    date
    for runtime in $(ls -t ~/.wavequeue/runtime | grep -x '[0-9a-f]\\{{32\\}}'); do
        for python in {" ".join(_PYTHONS)}; do
            "$python" -E -s -B "$HOME/.wavequeue/runtime/$runtime" queue_manager.resume_all && return
        done
    done
}}
if [ -d ~/.wavequeue/runtime ]; then wavequeue_resume >> ~/.wavequeue/resume.log 2>&1 < /dev/null & fi
:
"""
assert len(ONSTART) < LIMIT
