#!/bin/sh
# Makes what `make demo`, `docs` or `test` needs: Debian packages that are missing, and .venv with the libraries.
# Usage: tools/setup.sh demo|docs|test. Does nothing, and says nothing, when all is there.
set -eu
cd "$(dirname "$0")/.."

say() { echo "wavequeue: $*" >&2; }
fail() { say "$*"; exit 1; }

case ${1-} in
demo) target=. ;;
docs) target='.[docs]' ;;
test) target='.[dev]' ;;
*) fail "usage: tools/setup.sh demo|docs|test" ;;
esac
goal=$1

# Installs Debian packages where this user can, else says what a person has to do.
install_packages() {
    if ! command -v apt-get >/dev/null; then
        fail "please install these first (Debian names): $*"
    elif [ "$(id -u)" -ne 0 ]; then
        fail "packages are missing; please run: sudo apt-get install -y $*"
    fi
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    # A package list may be missing (container images ship none) or out of date, so it is fetched anew.
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null
}

# Programs that tests start, and the package of each. sshd lies outside many users' PATH.
wanted() {
    [ "$goal" = docs ] || echo "screen screen"
    [ "$goal" = test ] || return 0
    printf '%s\n' "sshd openssh-server" "rsync rsync" "ip iproute2" "gcc gcc" "ps procps" "tmux tmux" "jq jq" "curl curl"
}

missing=$(
    PATH="$PATH:/usr/sbin:/sbin"
    wanted | while read -r program package; do
        command -v "$program" >/dev/null || echo "$package"
    done
    # gcc comes without the headers of the C library.
    [ "$goal" != test ] || echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || echo libc6-dev
)
# Unquoted: one word for each package.
[ -z "$missing" ] || install_packages $missing

# Login shells that hosts may have. The tests of one that cannot be had are left out.
if [ "$goal" = test ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    shells=$(for name in fish tcsh zsh; do command -v "$name" >/dev/null || echo "$name"; done)
    [ -z "$shells" ] || (install_packages $shells) || say "not installed:" $shells
fi

# A browser, for the tests that open reports in one. They are left out where it cannot be had.
if [ "$goal" = test ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
        (install_packages chromium) || say "not installed: Chromium"
fi

# Slurm, for a cluster of tests on this machine. They are left out where it cannot be had.
if [ "$goal" = test ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    PATH="$PATH:/usr/sbin" command -v slurmctld >/dev/null ||
        (install_packages slurm-wlm slurm-wlm-basic-plugins munge) || say "not installed: Slurm"
fi

# Prints the first Python of at least 3.10 that runs what stands in $1. A name found may still not run (pyenv's shims).
find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$name" -c "import sys; assert sys.version_info >= (3, 10); $1" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}

place=$(pwd)
digest=$(cat pyproject.toml constraints.txt constraints-vastai.txt tools/setup.sh | cksum)

# Programs in a .venv name its place, and a Python that was removed leaves it dead: then it is made anew.
if [ "$(cat .venv/place 2>/dev/null)" != "$place" ] || ! .venv/bin/python -c '' 2>/dev/null; then
    python=$(find_python 'import ensurepip, venv')
    if [ -z "$python" ]; then
        python=$(find_python pass)
        [ -n "$python" ] || fail "Python 3.10 or newer is needed, and no such python3 is in PATH"
        # Debian ships venv apart from Python.
        install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
    echo "$place" >.venv/place
fi

# Installs into the environment of a Python ($1), with pins ($2): by uv, which takes a third of the time, or else by pip,
# which knows of indexes that a pip.conf names.
install() {
    python=$1 pins=$2
    shift 2
    .venv/bin/uv pip install -q --python "$python" -c "$pins" "$@" </dev/null 2>/dev/null && return
    "$python" -c 'import pip' 2>/dev/null || "$python" -m ensurepip >/dev/null
    "$python" -m pip install -qq --no-input --disable-pip-version-check -c "$pins" "$@" </dev/null
}

[ "$(cat ".venv/ready-$goal" 2>/dev/null)" != "$digest" ] || exit 0
say "installing the Python libraries of constraints.txt into .venv"
[ -x .venv/bin/uv ] || install .venv/bin/python constraints.txt --only-binary uv uv || :
vastai=
if [ "$goal" = test ]; then
    # The official command of Vast.ai, which the tests drive; it pins other versions than ours. Meanwhile, since both wait
    # for the network, and neither uses more than one core.
    say "installing the command of Vast.ai into .venv/vastai"
    {
        # pip alone takes longer than all that is installed here, and uv does not need it.
        [ -x .venv/vastai/bin/python ] || .venv/bin/python -m venv --without-pip .venv/vastai
        install .venv/vastai/bin/python constraints-vastai.txt vastai
    } &
    vastai=$!
fi
ended=0
install .venv/bin/python constraints.txt -e "$target" || ended=$?
[ -z "$vastai" ] || wait "$vastai" || ended=$?
[ "$ended" = 0 ] || exit "$ended"
# What the tests need holds all that the others need.
echo "$digest" >".venv/ready-$goal"
[ "$goal" != test ] || for other in demo docs; do echo "$digest" >".venv/ready-$other"; done
