"""Check the API keys of the services we use: ok, missing, invalid or unreachable. No key is ever printed."""

from __future__ import annotations

import base64
import json
import netrc
import os
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from build_manifest import regular_file
from skill.common.errors import UseError
from skill.common.files import read_text
from skill.common.http import NoReply, Reply, Request, Server, base_url, key_fault, without
from skill.common.project import ProjectPaths
from skill.hosts.dotenv import ALLOWED, choose
from skill.hosts.registry import Registry
from skill.providers.outcomes import AUTH, Unknown
from skill.providers.vast import credentials
from skill.providers.vast.client import Client
from skill.providers.vast.responses import line

_MOST_KEY = 1 << 16

OK, MISSING, INVALID, UNREACHABLE = "ok", "missing", "invalid", "unreachable"
"""Unreachable: it is unknown whether the key is valid."""


class Checked(NamedTuple):
    """One service. `source`: where its key was found. `hint`: what to do, or whose key it is."""

    service: str
    status: str
    source: str | None
    hint: str


class _Service(NamedTuple):
    """How to find a key and check it. `where`: the variable with the server's address, and the default address."""

    name: str
    variables: tuple[str, ...]
    where: tuple[str, str]
    how: str
    request: Request
    headers: Callable[[str], dict[str, str]]


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode()}


_SERVICES = (
    _Service(
        "W&B",
        ("WANDB_API_KEY",),
        ("WANDB_BASE_URL", "https://api.wandb.ai"),
        "put it into WANDB_API_KEY, or: wandb login",
        Request("POST", "/graphql", body={"query": "query { viewer { username } }"}),
        _basic,
    ),
    _Service(
        "Hugging Face",
        ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        ("HF_ENDPOINT", "https://huggingface.co"),
        "put it into HF_TOKEN, or: hf auth login",
        Request("GET", "/api/whoami-v2"),
        _bearer,
    ),
    _Service(
        "GitHub",
        ("GH_TOKEN", "GITHUB_TOKEN"),
        ("GITHUB_API_URL", "https://api.github.com"),
        "put it into GITHUB_TOKEN",
        Request("GET", "/rate_limit"),  # even a key with the fewest permissions may ask this
        _bearer,
    ),
)


class Keys(NamedTuple):
    """The keys of a project. `well`: no key is invalid or unchecked, and no required key is missing."""

    checked: list[Checked]
    well: bool


def check_project(workers: Path) -> Keys:
    """Check the keys of a project: from the environment, .env beside workers.yaml, and each service's own files. A key
    for Vast.ai is required where workers.yaml names rented machines. Raises UseError."""
    rents = any(worker.instance_id is not None for worker in Registry.load(workers).workers.values())
    checked = check(os.environ, _beside(ProjectPaths.of(workers).env), rents=rents)
    return Keys(checked, well(checked, rents=rents))


def _beside(path: Path) -> dict[str, str]:
    """Return the known names that a .env file sets; {} where there is no file. Raises UseError."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        return {}
    pairs = (text.partition("=") for text in shlex.split(choose(text, ALLOWED, str(path)).text))
    return {name: value for name, _, value in pairs}


def check(environment: Mapping[str, str], beside: Mapping[str, str], *, rents: bool) -> list[Checked]:
    """Check all services at once. `beside`: variables from the project's .env. `rents`: workers.yaml names rented
    machines, so a key for Vast.ai is required."""
    with ThreadPoolExecutor(len(_SERVICES) + 1) as pool:
        vast = pool.submit(_vast, environment, rents=rents)
        others = [pool.submit(_one, service, environment, beside) for service in _SERVICES]
        return [vast.result(), *(one.result() for one in others)]


def well(checked: list[Checked], *, rents: bool) -> bool:
    """Return whether all is well. A missing key is an error only where it is required."""
    return not any(
        one.status in (INVALID, UNREACHABLE) or (one.status == MISSING and one.service == "Vast.ai" and rents)
        for one in checked
    )


def judge(service: str, reply: Reply | NoReply, document: Any) -> tuple[str, str]:
    """Return the status of a key by the service's answer, and a hint."""
    if isinstance(reply, NoReply):
        return UNREACHABLE, reply.reason
    if reply.status == 401:
        return INVALID, "the key was rejected"
    if reply.status != 200 or not isinstance(document, dict):
        return UNREACHABLE, f"the server answered {reply.status}, which does not show whether the key is valid"
    if service == "W&B":  # it answers 200 to invalid keys as well
        data = document.get("data")
        if not isinstance(data, dict) or "viewer" not in data:
            return UNREACHABLE, "the server's answer does not show whether the key is valid"
        viewer = data["viewer"]
        return (OK, _of(viewer, "username")) if isinstance(viewer, dict) else (INVALID, "the key was rejected")
    return OK, _of(document, "name")


def _vast(environment: Mapping[str, str], *, rents: bool) -> Checked:
    name = "Vast.ai"
    try:
        key = credentials.find(environment)
        if key is None:
            needed = "needed for the rented machines of workers.yaml; " if rents else ""
            return Checked(name, MISSING, None, f"{needed}{credentials.HOW}")
        client = Client(key, credentials.server(environment))
    except UseError as error:
        return Checked(name, INVALID, None, str(error))
    try:
        user = client.user()
    finally:
        client.close()
    if not isinstance(user, Unknown):
        credit = "" if user.credit is None else f"${user.credit:.2f} left"
        return Checked(name, OK, key.source, credit)
    return Checked(name, INVALID if user.kind == AUTH else UNREACHABLE, key.source, user.reason)


def _one(service: _Service, environment: Mapping[str, str], beside: Mapping[str, str]) -> Checked:
    try:
        base = base_url(environment.get(service.where[0]) or service.where[1], service.where[0])
        key, source = _key(service, base, environment, beside)
    except UseError as error:
        return Checked(service.name, INVALID, None, str(error))
    if key is None:
        return Checked(service.name, MISSING, None, service.how)
    fault = key_fault(key)
    if fault:
        return Checked(service.name, INVALID, source, f"the key {fault}; {service.how}")
    server = Server(base, service.headers(key))
    try:
        reply = server.ask(service.request)
    finally:
        server.close()
    status, words = judge(service.name, reply, _document(reply))
    hint = f"{words}; {service.how}" if status == INVALID else words
    return Checked(service.name, status, source, without(hint, key))


def _key(
    service: _Service, base: str, environment: Mapping[str, str], beside: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Return a key and where it was found: the environment, the project's .env, or the file of the service's own
    tool."""
    for values, where in ((environment, "{}"), (beside, "{} in .env")):
        for name in service.variables:
            if values.get(name, "").strip():
                return values[name].strip(), where.format(name)
    home = Path(environment.get("HOME") or Path.home())
    if service.name == "Hugging Face":
        cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
        folder = Path(environment.get("HF_HOME") or cache / "huggingface")
        path = Path(environment.get("HF_TOKEN_PATH") or folder / "token")
        try:
            key = regular_file.read_text(path, _MOST_KEY).strip()
        except (OSError, UnicodeDecodeError):
            return None, None
        return (key, str(path)) if key else (None, None)
    if service.name == "W&B":
        path = Path(environment.get("NETRC") or home / ".netrc")
        if not path.is_file():
            return None, None
        try:
            found = netrc.netrc(str(path)).authenticators(urlsplit(base).hostname or "")
        except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
            return None, None
        return (found[2], str(path)) if found and found[2] else (None, None)
    return None, None


def _document(reply: Reply | NoReply) -> Any:
    try:
        return None if isinstance(reply, NoReply) else json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _of(found: Mapping[str, Any], field: str) -> str:
    value = found.get(field)
    return f"of {line(value)}" if isinstance(value, str) and value else ""
