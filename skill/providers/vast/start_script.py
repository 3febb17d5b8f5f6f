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
            "$python" -E -s -S -B "$HOME/.wavequeue/runtime/$runtime" queue_manager.resume_all && return
        done
    done
}}
if [ -d ~/.wavequeue/runtime ]; then wavequeue_resume >> ~/.wavequeue/resume.log 2>&1 < /dev/null & fi
:
"""
GUARD_AFTER = 4 * 3600
"""Seconds that a machine which `up` rents has to get its run; setting it up may take most of them."""


def guarded(seconds: int = GUARD_AFTER) -> str:
    """The start script of a machine that is there for one run: it destroys itself if it never gets one. Whoever rented
    it may have been cut off for good before there was a manager to see to its end.

    The key is the instance's own, from the environment of process 1; it is in no command's arguments.
    """
    return (
        ONSTART
        + f"""\
(
    sleep {seconds}
    set -- ~/.wavequeue/runs/*/journal.jsonl
    [ -e "$1" ] && exit
    eval "$(tr '\\0' '\\n' < "${{WAVEQUEUE_PROC:-/proc}}/1/environ" |
        grep -E '^(CONTAINER_(ID|API_KEY)|VAST_URL)=[A-Za-z0-9_.:/-]+$')"
    [ -n "$CONTAINER_ID" ] || exit
    until printf 'header = "Authorization: Bearer %s"\\n' "$CONTAINER_API_KEY" |
        curl -fsS -K - -X DELETE -H 'Content-Type: application/json' -d '{{}}' \\
            "${{VAST_URL:-https://console.vast.ai}}/api/v0/instances/$CONTAINER_ID/"; do sleep 60; done
) > /dev/null 2>&1 < /dev/null &
:
"""
    )


assert len(guarded()) < LIMIT
