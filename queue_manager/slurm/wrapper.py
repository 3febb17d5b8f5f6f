"""The scripts of a batch, which each task runs on its node. Pure.

`task.sh` runs the attempts of its task one after another, each by `attempt.sh`. That takes the claim of its attempt by
link(2), and so does the manager that gives the attempt up: only one of them can have it. Over NFS a link may exist
although its call failed, so what counts is whether the claim is the task's own file. That is named after node, job and
process, since process IDs repeat between nodes. The exit record is written beside and renamed, so that it is whole
wherever it is read.

TERM comes from Slurm, or from the manager for a task of one attempt: the job is told to end, and no other attempt
begins; the file `told` shows that it came. USR1 comes from Slurm some time before the time limit, for the job to save
its work; the file `warned` says whether a process of it waited for it. The file `oom` shows that the kernel has killed
one for want of memory. USR2 says that the manager has left a signal for one of the attempts in its file `stop`. That is
also read at each heartbeat, since over NFS a new file may be seen late. The heartbeat shows that a task lives where
Slurm has lost sight of its node: the job goes on there.

In an allocation that attempts share, a pilot runs `attempt.sh` for each of them, see `pilot`. TERM always says there
that the allocation ends. The standard input ends with the pilot, and is a TERM as well.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from queue_manager.adapters.claims import LINKED
from queue_manager.core.layout import RunPaths

BEAT = 30.0
"""Seconds between two signs of life."""
CLAIM = LINKED.strip()
"""The first word of a task's claim."""

_TASK = """\
#!/bin/bash
# wavequeue: one task of a batch. Its attempts are in the lines of `tasks` that end with its index.
umask 077
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0
batch=$PWD
root=@ROOT@
at=0
mine=()
while IFS=$'\\t' read -r attempt job tag index; do
[ "$index" != "$SLURM_ARRAY_TASK_ID" ] || mine+=("$attempt" "$job" "$tag")
done <"$batch/tasks" || exit 1
[ ${#mine[@]} -gt 3 ] || exec bash "$batch/attempt.sh" "${mine[@]}"
child=
over=
trap 'over=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
# Only for one that has begun: bash would die of it before its traps are set.
trap '[ ! -e "$root/attempts/${mine[at]}/stop" ] || kill -USR2 "$child" 2>/dev/null' USR2
trap 'over=1; [ ! -e "$root/attempts/${mine[at]}/claim" ] || kill -USR1 "$child" 2>/dev/null' USR1
trap : HUP INT QUIT
for ((; at < ${#mine[@]}; at += 3)); do
[ -z "$over" ] && [ ! -e "$root/slurm/paused" ] || break
bash "$batch/attempt.sh" "${mine[@]:at:3}" &
child=$!
while wait "$child"; kill -0 "$child" 2>/dev/null; do :; done
done
exit 0
"""

_ATTEMPT = """\
#!/bin/bash
# wavequeue: attempt.sh ATTEMPT JOB TAG [BATCH_OF_ITS_PILOT [WHY_IT_CANNOT_RUN]]
umask 077
root=@ROOT@
attempt=$1 job=$2 tag=$3 pilot=${4-}
# Nothing ever comes from 8: to read it is a pause without a process that would outlive the job. 9 ends with the pilot.
exec 8<> <(:)
[ -z "$pilot" ] || exec 9<&0 </dev/null
cd "$root/attempts/$attempt" || exit 0
child=
asked=
stopped=
trap 'asked=1; : 2>/dev/null >told; [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null' TERM
trap 'stopped=1; [ -z "$child" ] || { read -r name <stop && kill -"$name" -- "-$child"; } 2>/dev/null' USR2
trap '[ -z "$child" ] || warn' USR1
trap : HUP INT QUIT
# USR1 is for those processes of the job that wait for it, by a handler or, as srun does, blocked: it ends all others. A
# shell with a trap for EXIT has handlers for all signals that would end it, VTALRM as well.
warn() {
local file stat group pid key value blocked caught heard=0
for file in /proc/[0-9]*/stat; do
IFS= read -r stat <"$file" || continue
read -r _ _ group _ <<<"${stat##*) }"
[ "$group" = "$child" ] || continue
pid=${file//[!0-9]/} blocked=0 caught=0
while read -r key value; do
case $key in SigBlk:) blocked=$((16#$value)) ;; SigCgt:) caught=$((16#$value)) ;; esac
done <"/proc/$pid/status"
(((blocked | caught) & 16#200)) || continue
((caught & 16#2000000)) && ! names_it "$pid" && continue
kill -USR1 "$pid" && heard=1
done
echo "$heard" >warned
} 2>/dev/null
names_it() {
local words here=$PWD
mapfile -t words < <(tr '\\0' '\\n' <"/proc/$1/cmdline")
[ "$1" != "$child" ] || words+=("$here/job.sh")
[[ ${words[*]} == *USR1* ]] || (cd "/proc/$1/cwd" && grep -qs USR1 -- "${words[@]:1}")
}
# Processes of this cgroup that the kernel has killed for want of memory.
killed() {
local line file key value
while IFS= read -r line; do
case $line in
*[:,]memory[:,]*) file=/sys/fs/cgroup/memory${line#*:*:}/memory.oom_control ;;
0::*) file=/sys/fs/cgroup${line#0::}/memory.events ;;
*) continue ;;
esac
while read -r key value; do [ "$key" != oom_kill ] || echo "$value"; done <"$file"
done </proc/self/cgroup
} 2>/dev/null
node="${SLURMD_NODENAME:-$HOSTNAME}"
me="wrapper.$node.$SLURM_JOB_ID.$$"
gpus="${SLURM_JOB_GPUS:-$CUDA_VISIBLE_DEVICES}"
[ -z "$pilot" ] || gpus="$CUDA_VISIBLE_DEVICES"
printf '@CLAIM@ %s %s %s %s %s%s\\n' "$node" "$SLURM_JOB_ID" "$SLURM_ARRAY_TASK_ID" "$$" "${gpus:--}" \
"${pilot:+ $pilot}" >"$me" || exit 1
[ -z "$asked" ] || exit 0
ln "$me" claim 2>/dev/null
[ claim -ef "$me" ] || exit 0
bell() { [ -p "$root/bell" ] && printf w 1<>"$root/bell"; } 2>/dev/null
: >"$root/slurm/claimed/$attempt"
bell
nap() { read -r -t @BEAT@ -u 8 || [ $? -gt 128 ]; }
pause() { nap; }
[ -z "$pilot" ] || pause() {
read -r -t @BEAT@ -u 9 || [ $? -gt 128 ] || if kill -TERM "$$"; then nap; else kill -KILL -- "-$child"; false; fi
}
# It goes on for as long as anything of the job runs, even where this script was killed.
beat() {
while pause && kill -0 -- "-$child"; do : >beat; [ ! -e stop ] || kill -USR2 "$$"; done
} 2>/dev/null
: >beat
unset SLURM_EXPORT_ENV
before=$(killed)
export WAVEQUEUE_TAG="$tag"
# The job has a process group of its own, so that a signal reaches all of it and not this script.
set -m
run=(bash ./job.sh)
[ -z "${5-}" ] || run=(bash -c 'echo "$0"; exit 1' "$5")
"${run[@]}" >>@LOG_DIR@/"$job.log" 2>&1 </dev/null 8<&- 9<&- &
child=$!
set +m
beat &
beating=$!
[ -z "$asked" ] || kill -TERM -- "-$child" 2>/dev/null
[ -z "$stopped" ] || kill -USR2 "$$"
while wait "$child"; code=$?; kill -0 "$child" 2>/dev/null; do :; done
trap ': 2>/dev/null >told' TERM
trap '' HUP INT QUIT USR1 USR2
kill "$beating" 2>/dev/null || : >told
# A signal may have ended the wait before, so that its code was not the job's. One that came just with the job's end may
# have cost bash that code for good: then it waits for all of its processes, and says -1 or 127.
wait "$beating" 2>/dev/null
wait "$child" 2>/dev/null
last=$?
case $last in
-1 | 127) [ "$code" = 127 ] || { read -r name <stop && [ "$name" = KILL ] && code=137 || code=143; } 2>/dev/null ;;
*) code=$last ;;
esac
# Slurm's signal to this script may come just after the one to its job.
[ -z "$pilot" ] || [ "$code" -le 128 ] || [ -n "$asked$stopped" ] || sleep 1
[ "$(killed)" = "$before" ] || : >oom
until printf '%s\\n' "$code" >exit.new && mv exit.new exit; do [ -d "$root" ] || exit 1; sleep 1; done 2>/dev/null
: >"$root/slurm/ended/$attempt"
bell
exit 0
"""


_PILOT = """\
#!/bin/bash
# wavequeue: an allocation that attempts share, see queue_manager/slurm/pilot.py
umask 077
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0
exec @COMMAND@
"""


def pilot_script(command: Sequence[str]) -> str:
    """Return the script of a batch whose tasks are pilots, each run by this command."""
    return _PILOT.replace("@COMMAND@", " ".join(map(shlex.quote, command)))


def task_script(paths: RunPaths) -> str:
    """Return the script of a task, which is the same for all batches of a run."""
    return _filled(_TASK, paths)


def attempt_script(paths: RunPaths) -> str:
    """Return the script by which a task runs one attempt, the same for all of a run."""
    return _filled(_ATTEMPT, paths)


def _filled(text: str, paths: RunPaths) -> str:
    names = {"@ROOT@": shlex.quote(str(paths.root)), "@LOG_DIR@": shlex.quote(str(paths.log_dir))}
    for name, value in {**names, "@CLAIM@": CLAIM, "@BEAT@": f"{BEAT:g}"}.items():
        text = text.replace(name, value)
    return text


def task_line(attempt: str, job: str, tag: str, index: int) -> str:
    """Return the line of one attempt, which the task of this index runs."""
    return f"{attempt}\t{job}\t{tag}\t{index}\n"


def attempts_of(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the names of the attempts of each task, by its index, from the lines of a batch. In those of earlier
    versions each line is a task."""
    found: dict[int, list[str]] = {}
    for number, line in enumerate(text.splitlines()):
        attempt, *_, index = line.split("\t")
        found.setdefault(int(index) if line.count("\t") == 3 else number, []).append(attempt)
    return tuple(tuple(found.get(index, ())) for index in range(max(found, default=-1) + 1))
