"""How a job enters what its spec names: modules, conda, a venv, a uv project, a container. Lines of bash. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from queue_manager.core import layout
from queue_manager.core.manifest import Manifest

CANNOT_START = 66
"""Exit code where the cwd or the environment is missing; the log says which."""
NOT_PULLED = 67
"""Exit code of a look at a container whose image is not on the host yet."""
CONDA_BASES = layout.CONDA_BASES
ENGINES = ("docker", "podman", "apptainer", "singularity")
"""Container engines, in the order in which they are tried."""
_OF_FILES = ("apptainer", "singularity")
_MODULE_INITS = (
    "/etc/profile.d/modules.sh", "/etc/profile.d/lmod.sh", "/etc/profile.d/z00_lmod.sh",
    "/usr/share/lmod/lmod/init/bash",
    "/usr/share/modules/init/bash", "/usr/share/Modules/init/bash", "/opt/ohpc/admin/lmod/lmod/init/bash",
)  # fmt: skip
# Images need not have bash. What is run becomes the first process of the container: signals reach it.
_SHELL = 'command -v bash >/dev/null 2>&1 && exec bash -c "$1" bash "$2"; exec sh -c "$1" sh "$2"'
_AT = "_wq_at"
"""The variable with the attempt's directory."""
UNTAGGED = f"env -u {layout.TAG_VARIABLE}"
"""Before what an engine may leave running (podman without root has a process of its own) and no job did."""


class Inside(NamedTuple):
    """A job's command as its environment runs it. `lines`: bash, which begins as the job does after the exports;
    `names`: variables that a container gets; `cwd` is absolute; `run_cwd`: that of the run, None where it is the same;
    `gpus`: whether it has any."""

    lines: Sequence[str]
    names: Iterable[str] = ()
    cwd: str = "/"
    run_cwd: str | None = None
    gpus: bool = False
    umask: int = 0o022


def is_nested(manifest: Manifest) -> bool:
    """Whether the command runs in a shell of its own, within another program."""
    return manifest.uv or manifest.container is not None


def named(manifest: Manifest) -> tuple[str, str] | None:
    """The kind of the environment of a manifest and its name; None where it names none."""
    if manifest.container is not None:
        return "container", manifest.container
    if manifest.uv:
        return "uv", "project"
    if manifest.conda is not None:
        return "conda", manifest.conda
    if manifest.venv is not None:
        return "venv", manifest.venv
    return ("module", " ".join(manifest.module)) if manifest.module else None


def enter(manifest: Manifest, run_cwd: str, *, may_pull: bool = True, is_there: bool = True) -> list[str]:
    """Lines that enter the environment of a manifest in the job's cwd, or end with CANNOT_START and say why.

    `may_pull`: without it a missing image ends it with NOT_PULLED; `is_there`: whether the code is there already.
    """
    lines = _modules(manifest.module) if manifest.module else []
    if manifest.venv is not None:
        activate = path(manifest.venv.rstrip("/") + "/bin/activate")
        lines.append(f". {activate} || {give_up('the venv does not exist: ' + manifest.venv)}")
    elif manifest.conda is not None:
        lines += _conda(manifest.conda, manifest.conda_hook)
    elif manifest.uv:
        lines += _uv(is_there)
    elif manifest.container is not None:
        lines += _container(_image(manifest.container, run_cwd), may_pull)
    return lines


def identify(manifest: Manifest) -> list[str]:
    """Lines that write into the attempt's directory which environment it got; to be run after `enter`."""
    parts = []
    if manifest.module:
        parts.append('"module ${LOADEDMODULES-unknown}"')
    if manifest.venv is not None:
        parts.append(f'"venv $({_hash_of_names("$VIRTUAL_ENV/lib/python3*/site-packages/*.dist-info")})"')
    elif manifest.conda is not None:
        parts.append(f'"conda $({_hash_of_names("$CONDA_PREFIX/conda-meta/*.json")})"')
    elif manifest.uv:
        parts.append('"uv.lock $(_wq=$(sha256sum < "$_wq_lock"); echo "sha256:${_wq%% *}")"')
    elif manifest.container is not None:
        parts.append('"$_wq_engine $_wq_digest"')
    if not parts:
        return []
    return [f"printf '%s\\n' {' '.join(parts)} > \"${_AT}/environment\" 2>/dev/null"]


def within(manifest: Manifest, inside: Inside) -> list[str]:
    """Lines that run a command in the environment that was entered."""
    if not is_nested(manifest):
        return list(inside.lines)
    own = [f"{_AT}=$1", "set --", "trap 'exit 143' TERM", "trap '' HUP", f"umask {inside.umask:04o}"]
    text = "\n".join([*own, "(set -o pipefail) 2>/dev/null && set -o pipefail", *inside.lines])
    if manifest.uv:
        return [f'uv run --frozen -- bash -c {q(text)} bash "${_AT}"']
    image = _image(manifest.container or "", inside.run_cwd or inside.cwd)
    return _run_container(image, inside, text)


def _modules(names: Sequence[str]) -> list[str]:
    inits = " ".join(['"${MODULESHOME-/none}/init/bash"', '"${LMOD_PKG-/none}/init/bash"', *_MODULE_INITS])
    missing = give_up("environment modules were not found here (no `module` command); remove module from the spec")
    lines = [
        (
            f"type module >/dev/null 2>&1 || for _wq in {inits}; do "
            'if [ -r "$_wq" ]; then . "$_wq"; type module >/dev/null 2>&1 && break; fi; done'
        ),
        f"type module >/dev/null 2>&1 || {missing}",
    ]
    for name in names:
        failed = give_up(f"module {name} cannot be loaded; see: module avail")
        # Old versions return 0 whatever happens.
        lines.append(f"_wq=${{LOADEDMODULES-}}; module load {q(name)} || {failed}")
        lines.append(
            f'[ "$_wq" != "${{LOADEDMODULES-}}" ] || case ":$_wq:" in *{q(f":{name}:")}*|*{q(f":{name}/")}*) ;; '
            f"*) {failed} ;; esac"
        )
    return lines


def _conda(name: str, hook: str | None) -> list[str]:
    if hook is not None:
        lines = [
            f"_wq={path(hook)}",
            'if [ -d "$_wq" ]; then _wq=$_wq/etc/profile.d/conda.sh; fi',
            f'if [ -f "$_wq" ]; then . "$_wq"; else eval "$_wq"; fi || {give_up("conda_hook cannot be read: " + hook)}',
        ]
    else:
        bases = " ".join(f'"{base}"' for base in ("${CONDA_EXE%/bin/conda}", *CONDA_BASES))
        lines = [
            f'for _wq in {bases}; do [ -f "$_wq/etc/profile.d/conda.sh" ] && break; _wq=; done',
            f'[ -n "$_wq" ] || {give_up("conda was not found in the usual places; say where with conda_hook")}',
            '. "$_wq/etc/profile.d/conda.sh"',
        ]
    return [*lines, f"conda activate {q(name)} || {give_up('conda has no environment ' + name)}"]


def _uv(is_there: bool) -> list[str]:
    missing = give_up("uv is not installed here, and the spec says uv: true; install it with: pip install uv")
    lines = [
        'command -v uv >/dev/null || PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin"',
        f"command -v uv >/dev/null || {missing}",
    ]
    if is_there:
        no_lock = give_up("uv: true needs a uv.lock in the cwd or above it; write it with: uv lock")
        lines += [
            "_wq_lock=$PWD",
            'until [ -f "$_wq_lock/uv.lock" ] || [ -z "$_wq_lock" ]; do _wq_lock=${_wq_lock%/*}; done',
            "_wq_lock=$_wq_lock/uv.lock",
            f'[ -f "$_wq_lock" ] || {no_lock}',
        ]
    return lines


def _container(image: str, may_pull: bool) -> list[str]:
    """Choose an engine, and see to it that it has the image: `_wq_engine`, `_wq_digest`."""
    is_file = _is_file(image)
    engines = _OF_FILES if is_file else ENGINES
    none = f"no container engine works here for {image}: {', '.join(engines)}; install one, or ask its administrator"
    inspect = f"{UNTAGGED} $_wq_engine image inspect --format"
    pulled = f"container: {image} is not on this host yet; the first job pulls it"
    not_pulled = give_up(pulled, NOT_PULLED)
    pull = f"{UNTAGGED} $_wq_engine pull {q(image)}" if may_pull else "false"
    no_image = give_up(f"the image {image} is not here, and cannot be pulled") if may_pull else not_pulled
    lines = [
        "_wq_engine=",
        f"for _wq in {' '.join(engines)}; do",
        "command -v $_wq >/dev/null || continue",
        # Docker needs its daemon, and the right to use it; and podman may go by its name.
        'if [ $_wq = docker ]; then case "$(docker --version 2>/dev/null)" in podman*) continue ;; esac',
        f"{UNTAGGED} docker version >/dev/null 2>&1 || continue; fi",
        "_wq_engine=$_wq; break; done",
        f'[ -n "$_wq_engine" ] || {give_up(none)}',
    ]
    if is_file:
        no_file = give_up(f"the image {image} does not exist")
        return [
            *lines,
            f"_wq_digest=$(stat -c 'size %s, changed %Y' -- {path(image)} 2>/dev/null) || {no_file}",
            f"_wq_digest={q(image + ', ')}$_wq_digest",
        ]
    digest = "'{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}'"
    return [
        *lines,
        "case $_wq_engine in",
        (
            f"docker|podman) _wq_digest=$({inspect} {digest} {q(image)} 2>/dev/null) || "
            f"{{ {pull} && _wq_digest=$({inspect} {digest} {q(image)}); }} || {no_image} ;;"
        ),
        f"*) _wq_digest={q(image)} ;;",  # it keeps what it pulls by itself
        "esac",
    ]


def _run_container(image: str, inside: Inside, text: str) -> list[str]:
    names = " ".join(dict.fromkeys(["PYTHONUNBUFFERED", *inside.names])) + " ${!WAVEQUEUE_@}"
    places = [q(place) for place in dict.fromkeys(filter(None, (inside.cwd, inside.run_cwd)))]
    places.append(f'"${{{_AT}%/*/*}}"')  # the run's directory
    command = f'-c {q(_SHELL)} sh {q(text)} "${_AT}"'
    of_files = "|".join(_OF_FILES)
    source = path(image) if _is_file(image) else q(image if "://" in image else f"docker://{image}")
    return [
        f"set -- --workdir {q(inside.cwd)} --network host --ipc host --entrypoint sh --env HOME=/tmp",
        f'for _wq in {names}; do set -- "$@" --env "$_wq"; done',
        f"_wq_places=({' '.join(places)})",
        "case $_wq_engine in",
        # In a docker of its own user, root inside is that user outside.
        (
            "docker) case $(docker info --format '{{.SecurityOptions}}' 2>/dev/null) in *rootless*) ;; "
            '*) set -- "$@" --user "$(id -u):$(id -g)" ;; esac'
        ),
        *(['set -- "$@" --gpus all'] if inside.gpus else []),
        ";;",
        'podman) set -- "$@" --user "$(id -u):$(id -g)"; [ "$(id -u)" = 0 ] || set -- "$@" --userns keep-id',
        *(['set -- "$@" --device nvidia.com/gpu=all'] if inside.gpus else []),
        ";;",
        f"{of_files}) set -- --cleanenv --pwd {q(inside.cwd)}{' --nv' if inside.gpus else ''}",
        (
            f'for _wq in {names}; do [ -z "${{!_wq+x}}" ] || '
            'export "APPTAINERENV_$_wq=${!_wq}" "SINGULARITYENV_$_wq=${!_wq}"; done ;;'
        ),
        "esac",
        'for _wq in "${_wq_places[@]}"; do case $_wq_engine in',
        f'{of_files}) set -- "$@" --bind "$_wq" ;;',
        '*) set -- "$@" --mount "type=bind,source=$_wq,target=$_wq" ;; esac; done',
        f'case $_wq_engine in {of_files}) "$_wq_engine" exec "$@" {source} sh {command} ;;',
        f'*) "$_wq_engine" run --rm --label "wavequeue=${layout.TAG_VARIABLE}" "$@" {q(image)} {command} ;; esac',
    ]


def _is_file(image: str) -> bool:
    return image.endswith((".sif", ".simg", ".img"))


def _image(image: str, run_cwd: str) -> str:
    """An image as any directory can name it."""
    return f"{run_cwd}/{image}" if _is_file(image) and not image.startswith(("/", "~/")) else image


def _hash_of_names(pattern: str) -> str:
    """Bash that prints a hash of the names of the installed packages, which hold their versions."""
    listed = f"for _wq in {pattern}; do printf '%s\\n' \"${{_wq##*/}}\"; done | sha256sum"
    return f'_wq=$({listed}); echo "sha256:${{_wq%% *}}"'


def give_up(message: str, code: int = CANNOT_START) -> str:
    """Bash that says why a job cannot start, and ends it."""
    return f"{{ printf '%s\\n' {q('wavequeue: ' + message)}; exit {code}; }}"


def path(value: str) -> str:
    """Quoted, but for the home directory: which one is known on the host alone."""
    return f'"$HOME"/{q(value[2:])}' if value.startswith("~/") else q(value)


def q(value: object) -> str:
    """Quoted for bash."""
    return shlex.quote(str(value))
