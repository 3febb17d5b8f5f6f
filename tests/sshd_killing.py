"""A host that ends what a session left behind when the session ends, as systemd does with KillUserProcesses=yes."""

from __future__ import annotations

from tests.sshd import Sshd

# What was started in a scope of its own goes on, where lingering was allowed.
_SESSION = r"""unset BASH_ENV
BASH_ENV=@inner@ bash -c "$BASH_EXECUTION_STRING"; code=$?
for one in $(grep -lzFx 'HOME=@home@' /proc/[0-9]*/environ 2>/dev/null); do
    one=${one%/environ}
    case $(sed -n 's/^PPid:[[:space:]]*//p' "$one/status" 2>/dev/null) in
        1) ;;
        '') continue ;;
        *) case $(cat "/proc/$(sed -n 's/^PPid:[[:space:]]*//p' "$one/status" 2>/dev/null)/comm" 2>/dev/null) in
            systemd|*init*|*reaper*) ;; *) continue ;; esac ;;
    esac
    grep -qzFx IN_A_SCOPE=1 "$one/environ" 2>/dev/null && [ -e '@home@/lingers' ] && continue
    kill -9 "${one#/proc/}" 2>/dev/null
done
exit $code
"""
# It takes systemd a moment to make a scope, and until then what asks for one is a process of the session.
_SCOPE = """#!/bin/sh
sleep 0.3
while [ "$1" != -- ]; do shift; done; shift
IN_A_SCOPE=1 exec "$@"
"""


def make_killing(host: Sshd, *, may_linger: bool) -> None:
    """Have a bare host end all that a session leaves behind; `may_linger`: its users may ask to be spared."""
    session = host.root / "session"
    inner = session.rename(host.root / "session.inner")
    session.write_text(_SESSION.replace("@home@", str(host.home)).replace("@inner@", str(inner)))
    linger = f"#!/bin/sh\ntouch '{host.home}/lingers'\n" if may_linger else "#!/bin/sh\nexit 1\n"
    for name, text in (("systemd-run", _SCOPE), ("loginctl", linger)):
        (host.bin / name).write_text(text)
        (host.bin / name).chmod(0o755)
