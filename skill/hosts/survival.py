"""Test whether processes on a host outlive the SSH session that started them, once per boot of the host.

systemd ends all processes of a session with it where KillUserProcesses is set, some clusters do so by other means, and
a manager that was started there would be gone with its jobs as soon as the submit ends.
"""

from __future__ import annotations

import re

from skill.hosts.bootstrap import PLACE, Facts
from skill.hosts.connection import Host, Unreachable

PLAIN, SCOPE = "plain", "scope"
"""How a manager is started: as it is; in a scope of systemd's own for the user, which outlives sessions."""

_FAULT = (
    "processes started there are killed when the SSH session ends (just tested; KillUserProcesses=yes in "
    "/etc/systemd/logind.conf does that), so that no job would outlive this command, and nothing was started"
)


def fault(host: Host, facts: Facts) -> str | Unreachable | None:
    """Why a manager that is started there would not outlive us, in words; None if it would.

    What was found is kept there until the host starts anew, and queue_manager.remote.start does as it says. A host
    that ends processes with their session is asked to let those of this user linger, where that is allowed.
    """
    if host.worker.kind == "local" or facts.survival is not None:
        return None
    found = _survives(host, PLAIN)
    if isinstance(found, Unreachable) or found:
        return found if isinstance(found, Unreachable) else None
    result = host.script(_LINGER)
    if isinstance(result, Unreachable):
        return result
    if result.code == 0:
        found = _survives(host, SCOPE)
        if isinstance(found, Unreachable) or found:
            return found if isinstance(found, Unreachable) else None
        return f"{_FAULT}; loginctl enable-linger is allowed there, and did not help: ask its administrator"
    user = host.worker.ssh.user if host.worker.ssh is not None and host.worker.ssh.user else "USER"
    return f"{_FAULT}; run there as root: loginctl enable-linger {user}"


def _survives(host: Host, how: str) -> bool | Unreachable:
    """Start a process over a connection of its own, close that, and see whether the process still runs."""
    other = Host(host.worker, host.known_hosts, host.tries)
    try:
        begun = other.script(_BEGIN, how, limit=1 << 16)
    finally:
        other.close()
    if isinstance(begun, Unreachable):
        return begun
    begun_at = re.fullmatch(r"(\d{1,10}) (\d{1,20})\s*", begun.out.decode(errors="replace"))
    if begun_at is None:
        return False  # it is gone already
    seen = host.script(_END, begun_at[1], begun_at[2], how, limit=1 << 16)
    return seen if isinstance(seen, Unreachable) else seen.out.strip() == b"there"


# As queue_manager.remote.start does it: a session of its own, deaf to the end of ours. It is waited for until it runs
# where it is to stay: systemd-run needs a moment to leave our session, and would end with it before.
_BEGIN = """
[ -n "${XDG_RUNTIME_DIR-}" ] || export XDG_RUNTIME_DIR="/run/user/$(id -u)"
set -- "$1" sh -c 'read -r line < "/proc/$$/stat"; echo "$$ $line"; exec sleep 90 >/dev/null'
case $1 in
    scope) shift; set -- systemd-run --user --scope --quiet -- "$@" ;;
    *) shift ;;
esac
begun=$( (trap '' HUP; exec setsid "$@") </dev/null 2>/dev/null & )
pid=${begun%% *}
set -- ${begun##*) }
printf '%s %s\\n' "$pid" "${20-}"
"""

# A process that was ended and that nobody has waited for counts as gone.
_END = f"""
umask 077; mkdir -p .wavequeue; {PLACE}
pid=$1 start=$2 how=$3 n=0
while [ $n -lt 5 ]; do
    line=
    {{ read -r line < "/proc/$pid/stat"; }} 2>/dev/null
    set -- ${{line##*) }}
    [ "${{20-}}" = "$start" ] && [ "$1" != Z ] || {{ echo gone; exit 0; }}
    n=$((n + 1)); sleep 0.4 2>/dev/null || sleep 1
done
kill -9 "$pid"
mkdir -p -- "$w" && printf '%s %s\\n' "$(cat /proc/sys/kernel/random/boot_id)" "$how" > "$w/survival.$pid" &&
    mv -f -- "$w/survival.$pid" "$w/survival"
echo there
"""

_LINGER = "loginctl enable-linger </dev/null >/dev/null 2>&1"
