"""The scripts that run in a session: the wrapper, one for all, and the job's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from queue_manager.adapters import distributed
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.recover_policy import Rung
from queue_manager.launchers import environments
from queue_manager.launchers.environments import Inside, give_up, q

# bash and not python: one stands beside every job. Not sh either, which is dash in many places and hands on neither
# exported functions nor names with dots; with -p bash leaves both, and BASH_ENV, to the job. It begins no process but
# the job's. So the claim is a file that bash makes itself, only where there is none (-C is O_EXCL), once it has said
# in another who it is: see `claims`. And the exit record is written where it is read: it counts once its line is
# whole. Signals from the terminal are for the job; the wrapper stays, to write the verdict, and waits while the disk
# is full, though not for a run that was deleted. After a failure it gives screen a moment to read the last words:
# when the first process of a terminal ends, the kernel throws away what nobody has read. Signals are ignored by then.
# What the job leaves running would lose its terminal with the wrapper, and die of its next line of output: all that
# it began holds the gate open, and until that has ended the wrapper waits for the end of the gate, with no process
# for it. Its verdict is there by then, and the manager hears of it by the bell.
WRAPPER = """\
#!/bin/bash -p
# wavequeue: wrapper.sh ATTEMPT_DIRECTORY TAG [WHERE_TO_WAIT ITS_FIFO]
trap : HUP INT QUIT TERM
umask 077
cd "$1" || exit 1
IFS= read -r me < "/proc/$$/stat" && printf '%s\\n' "$me" > "wrapper.$$" || exit 1
if [ -n "${3-}" ]; then
{ exec 9<"$3"; } 2>/dev/null && [ /proc/self/fd/9 -ef "$4" ] && read -r <&9 && [ "$REPLY" = go ] || exit 0
exec 9<&-
fi
set -C
{ printf '%s\\n' "$me" > claim; } 2>/dev/null || exit 0
set +C
export WAVEQUEUE_TAG="$2"
[ -p gate ] && exec 8<>gate 7<gate 151>gate 8>&-
bash ./job.sh 7<&-
code=$?
exec 151>&-
[ "$code" = 0 ] || sleep 0.1 2>/dev/null
trap '' HUP INT QUIT TERM
until printf '%s\\n' "$code" > exit; do [ -d "$1" ] || exit 1; sleep 1; done 2>/dev/null
[ -p gate ] && ! read -t 0 -u 7 || exit 0
trap - HUP TERM
[ -p ../../bell ] && printf w 1<>../../bell
read -r -u 7
"""

SCREENRC = """\
startup_message off
vbell off
defutf8 on
defscrollback 1000
zombie
deflog on
logfile flush 0
logfile $WAVEQUEUE_LOG
"""
"""A user's own screenrc could keep dead windows or move the log, so ours is used. The machine's is still read before
it: `zombie` takes back what that may say."""


class Given(NamedTuple):
    """What an attempt gets at launch, beside what its manifest says.

    `umask`: for the files that the job makes. `environment`: a file that exports what the run was started with.
    `named`: variables, by the name under which the session hands their values on. `missing`: variables that cannot be
    set, and from what. `port`: one that no other attempt has. `code`: which code it finds, see code_identity.
    `prelude`: what runs before the job's command, to recover. `run_cwd`: that of the run, absolute.
    """

    umask: int = 0o022
    environment: str | None = None
    named: Mapping[str, str] = {}
    missing: Mapping[str, str] = {}
    port: int | None = None
    code: str | None = None
    prelude: Rung | None = None
    run_cwd: str | None = None


NOTHING_GIVEN = Given()
_EXPORTED = re.compile(r"\bexport (\w+)=")
_HOW = "write it into .env beside the code, then: wavequeue retry"


def job_script(
    manifest: Manifest,
    spec: JobSpec,
    run_id: str,
    n: int,
    names: Sequence[str] | None,
    cwd: str,
    given: Given = NOTHING_GIVEN,
) -> str:
    """The bash script of one attempt, run in the attempt's directory. `names`: of its cards, as CUDA takes them, see
    readings.cuda_name; None: it is given them by what starts it. `cwd` is absolute."""
    cards = None if names is None else ",".join(names)
    fixed = {"WAVEQUEUE_JOB_ID": spec.id, "WAVEQUEUE_RUN_ID": run_id, "WAVEQUEUE_ATTEMPT": str(n)}
    if given.code is not None:
        fixed["WAVEQUEUE_CODE"] = given.code
    own = {**manifest.env, **spec.env}
    shown = {} if cards is None else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cards}
    if not names:  # no card is given to it: one that its spec names for it all the same is not hidden
        shown.update({name: own[name] for name in shown if name in own})
    fixed.update({**own, **shown})
    ports = distributed.exports(manifest, spec, run_id, given.port)
    uses_place = environments.named(manifest) is not None or given.prelude is not None
    errexit = manifest.errexit if spec.errexit is None else spec.errexit
    inside = Inside(
        [
            *(_GIVEN_CARDS if cards is None else []),
            *([] if given.prelude is None else _prelude(given.prelude, cards)),
            *(["set -e"] if errexit else []),
            _filled(spec.cmd, cards),
        ],
        [*fixed, *given.named, *(_EXPORTED.findall("\n".join(ports))), *(_GIVEN if cards is None else ())],
        cwd,
        given.run_cwd,
        names is None or bool(names),
        given.umask,
    )
    parts = [
        f"# wavequeue: job {spec.id}, attempt {n}",
        # After TERM it lets the running command end (checkpoints), and begins no other.
        "trap 'exit 143' TERM",
        # The terminal hangs up when the command ends: what that left running is not to die of it without a word. A
        # session that a person closes is seen by the manager, which ends the job.
        "trap '' HUP",
        "set -o pipefail",
        "IFS= read -r _wq < /proc/$$/stat && printf '%s\\n' \"$_wq\" > started",
        *(["_wq_at=$PWD"] if uses_place else []),
        f"umask {given.umask:04o}",
        *([] if given.environment is None else _sourced(given.environment, cards is None)),
        f"cd -- {q(cwd)} || {give_up('the cwd does not exist: ' + cwd)}",
        *environments.enter(manifest, given.run_cwd or cwd),
        *environments.identify(manifest),
        "unset _wq",
        # Python keeps what it prints into a pipe (`| tee`) until there is a lot of it, and loses it when it is killed.
        'export PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"',
        *_exports(fixed),
        *ports,
        *(f'export {name}="${alias}"; unset {alias}' for name, alias in given.named.items()),
        *(
            give_up(f"env {name} is taken from {of}, which neither .env nor the run's environment has; {_HOW}")
            for name, of in given.missing.items()
        ),
        *environments.within(manifest, inside),
    ]
    return "\n".join(parts) + "\n"


def _sourced(environment: str, keeps_cards: bool) -> list[str]:
    """Lines that read the run's environment. `keeps_cards`: but for the GPUs that were given to this attempt alone."""
    line = f". {q(environment)}"
    if not keeps_cards:
        return [line]
    return [f'_wq="$(declare -p {" ".join(_OF_CARDS)} 2>/dev/null)"', line, 'eval "$_wq"']


_OF_CARDS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "GPU_DEVICE_ORDINAL")
_GIVEN = ("CUDA_VISIBLE_DEVICES",)
_GIVEN_CARDS = ['GPU="${CUDA_VISIBLE_DEVICES-}"', 'GPU_INDEX="$(set -- ${GPU//,/ }; seq -s, 0 $(($# - 1)))"']
"""What a command's `${GPU}` and `${GPU_INDEX}` are where they are known only once it runs."""


def _filled(command: str, cards: str | None) -> str:
    """A command with its GPUs, by their number on the host and as the job counts them."""
    if cards is None:
        return command
    count = cards.count(",") + 1 if cards else 0
    return command.replace("${GPU}", cards).replace("${GPU_INDEX}", ",".join(map(str, range(count))))


def _prelude(rung: Rung, cards: str | None) -> list[str]:
    """A rung's command, which the job's own follows however it ends: that says more than not to try."""
    command = f"timeout -k 10 {rung.timeout:g} bash -eo pipefail -c {q(_filled(rung.command, cards))}"
    return [
        f"printf '%s\\n' {q('wavequeue: recover: ' + rung.command)}",
        f"{command} </dev/null",
        "_wq=$?",
        'printf \'%s\\n\' "$_wq" > "$_wq_at/recovered"',
        f'[ "$_wq" = 0 ] || printf "%s\\n" {q("wavequeue: recover: that failed, but the job starts anyway")}',
        "unset _wq _wq_at",
    ]


def complete_script(manifest: Manifest, run_id: str, run_dir: str, cwd: str) -> str:
    """The bash script of a command of the whole run, such as `on_complete`, in the run's cwd with its environment; one
    that is a container is left out: such commands are about the host."""
    variables = {"WAVEQUEUE_RUN_ID": run_id, "WAVEQUEUE_RUN_DIR": run_dir, **manifest.env}
    return _whole(manifest._replace(container=None), cwd, variables, manifest.on_complete or ":")


def look_script(manifest: Manifest, cwd: str, command: str, *, is_there: bool) -> str:
    """The bash script that runs a command as jobs would, and changes nothing. `is_there`: see environments.enter."""
    return _whole(manifest, cwd, manifest.env, command, is_there=is_there)


def _whole(manifest: Manifest, cwd: str, variables: Mapping[str, str], command: str, *, is_there: bool = True) -> str:
    inside = [command]
    parts = [
        f"cd -- {q(cwd)} || {give_up('the cwd does not exist: ' + cwd)}",
        *environments.enter(manifest, cwd, may_pull=False, is_there=is_there),
        *_exports(variables),
        *(["_wq_at=/tmp/none/none"] if environments.is_nested(manifest) else []),
        *(environments.within(manifest, Inside(inside, variables, cwd)) if is_there or not manifest.uv else inside),
    ]
    return "\n".join(parts) + "\n"


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={q(value)}" for name, value in variables.items()]
