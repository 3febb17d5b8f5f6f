#!/bin/bash -p
# wavequeue: wrapper.sh ATTEMPT_DIRECTORY TAG
trap : HUP INT QUIT TERM
umask 077
cd "$1" || exit 1
IFS= read -r me < "/proc/$$/stat" && printf '%s\n' "$me" > "wrapper.$$" || exit 1
ln "wrapper.$$" claim 2>/dev/null || exit 0
export WAVEQUEUE_TAG="$2"
bash ./job.sh
code=$?
[ "$code" = 0 ] || sleep 0.1 2>/dev/null
trap '' HUP INT QUIT TERM
until printf '%s\n' "$code" > exit.tmp; do [ -d "$1" ] || exit 1; sleep 1; done 2>/dev/null
LC_ALL=C exec mv exit.tmp exit
