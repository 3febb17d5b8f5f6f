"""List the packages of a Python on a host, as `pip freeze` does."""

from __future__ import annotations

# The job's Python is known with a spec only; here the environment that a workspace or a rented image has counts. Python
# also imports from the directory in which it starts: in the home it may find anything.
_SCRIPT = """\
for python in "$1/.venv/bin/python" "$1/venv/bin/python" /venv/main/bin/python "$2"; do [ -x "$python" ] && break; done
echo "$python"
cd / && exec </dev/null
"$python" -c "$3" plain 2>/dev/null || "$python" -m pip freeze 2>/dev/null || "$python" -c "$3" all
"""

# pip takes several times as long to start as it takes to list what most environments have: names and versions. They are
# in the first lines of each package's metadata, of which importlib.metadata would parse all. With `plain` it fails, for
# pip to be asked, where pip would write more (of what came from a URL, is editable, is an egg, or has a version that is
# not in its normal form), or would look into a zip file.
_LIST = r"""
import os, re, sys
NORMAL = r"([1-9]\d*!)?N(\.N)*((a|b|rc)N)?(\.postN)?(\.devN)?(\+L(\.L)*)?"
NORMAL = re.compile(NORMAL.replace("N", r"(0|[1-9]\d*)").replace("L", r"(0|[1-9]\d*|\d*[a-z][a-z\d]*)"))
hidden = {"python", "wsgiref", "argparse", "pip"}
if sys.version_info < (3, 12):
    hidden |= {"setuptools", "distribute", "wheel"}
def head(info):
    for path in (os.path.join(info, "METADATA"), os.path.join(info, "PKG-INFO"), info):
        if os.path.isfile(path):
            known = {}
            with open(path, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    if not line.strip():
                        break
                    key, _, value = line.partition(":")
                    known.setdefault(key.lower(), value.strip())
            return known
    return {}
folders = [path for path in sys.path if os.path.isdir(path)]
found = {}
is_plain = not any(os.path.isfile(path) for path in sys.path)
for folder in folders:
    for entry in os.listdir(folder):
        if entry.endswith((".egg", ".egg-link")):
            is_plain = False
        if not entry.lower().endswith((".dist-info", ".egg-info")):
            continue
        info = os.path.join(folder, entry)
        known = head(info)
        name, version = known.get("name", ""), known.get("version", "")
        key = re.sub("[-_.]+", "-", name).lower()
        # The name begins with ~ where pip was killed as it removed it. Of two, the first is the one that is imported.
        if re.fullmatch(r"[A-Za-z\d]([\w.-]*[A-Za-z\d])?", name, re.ASCII) and key not in found:
            found[key] = (name, version, os.path.exists(os.path.join(info, "direct_url.json")))
shown = sorted((found[key] for key in found if key not in hidden), key=lambda row: row[0].lower())
if any(has_url or not NORMAL.fullmatch(version) for _, version, has_url in shown):
    is_plain = False
if sys.argv[1] == "plain" and not is_plain:
    sys.exit(1)
for name, version, _ in shown:
    print("%s==%s" % (name, version))
"""


def command(workspace: str, python: str) -> tuple[str, str, str, str]:
    """Return a script and its arguments, for Host.script. It prints the Python that counts for `workspace` (`python`
    where that has no environment), and then a line for each of its packages."""
    return _SCRIPT, workspace, python, _LIST
