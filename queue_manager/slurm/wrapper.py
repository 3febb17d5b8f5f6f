"""The script of a batch, which each task runs on its node. Pure.

A task takes the claim of its attempt by link(2), and so does the manager that gives the attempt up: only one of them
can have it. Over NFS a link may exist although its call failed, so what counts is whether the claim is the task's own
file. That is named after node, job and process, since process IDs repeat between nodes. The exit record is written
beside and renamed, so that it is whole wherever it is read.

The heartbeat shows that a task lives where Slurm has lost sight of its node: the job goes on there.
"""

from __future__ import annotations

import shlex

from queue_manager.adapters.claims import LINKED
from queue_manager.core.layout import RunPaths

BEAT = 30
"""Seconds between two signs of life."""
CLAIM = LINKED.strip()
"""The first word of a task's claim."""

_TASK = """\
#!/bin/bash
# wavequeue: one task of a batch. Its attempt is in the line of `tasks` that its index names.
umask 077
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0
root=@ROOT@
log_dir=@LOG_DIR@
batch=$PWD
mapfile -t tasks <"$batch/tasks" || exit 1
IFS=$'\\t' read -r attempt job tag <<<"${tasks[$SLURM_ARRAY_TASK_ID]}"
cd "$root/attempts/$attempt" || exit 0
node="${SLURMD_NODENAME:-$HOSTNAME}"
me="wrapper.$node.$SLURM_JOB_ID.$$"
printf '@CLAIM@ %s %s %s %s\\n' "$node" "$SLURM_JOB_ID" "$SLURM_ARRAY_TASK_ID" "$$" >"$me" || exit 1
ln "$me" claim 2>/dev/null
[ claim -ef "$me" ] || exit 0
bell() { [ -p "$root/bell" ] && printf w 1<>"$root/bell"; } 2>/dev/null
: >"$root/slurm/claimed/$attempt"
bell
beat() { while sleep @BEAT@; do : >beat; done; }
: >beat
beat &
beating=$!
unset SLURM_EXPORT_ENV
export WAVEQUEUE_TAG="$tag"
# The job has a process group of its own, so that a signal reaches all of it and not this script.
set -m
bash ./job.sh >>"$log_dir/$job.log" 2>&1 </dev/null &
child=$!
set +m
trap 'kill -TERM -- "-$child" 2>/dev/null' TERM
trap : HUP INT QUIT USR1
code=127
while :; do
wait "$child"
code=$?
kill -0 "$child" 2>/dev/null || break
done
trap '' TERM HUP INT QUIT USR1
kill "$beating" 2>/dev/null
until printf '%s\\n' "$code" >exit.new && mv exit.new exit; do [ -d "$root" ] || exit 1; sleep 1; done 2>/dev/null
: >"$root/slurm/ended/$attempt"
bell
exit 0
"""


def task_script(paths: RunPaths) -> str:
    """Return the script of all batches of a run."""
    filled = _TASK.replace("@ROOT@", shlex.quote(str(paths.root))).replace("@LOG_DIR@", shlex.quote(str(paths.log_dir)))
    return filled.replace("@CLAIM@", CLAIM).replace("@BEAT@", str(BEAT))


def task_line(attempt: str, job: str, tag: str) -> str:
    """Return the line of one task."""
    return f"{attempt}\t{job}\t{tag}\n"
