"""`wavequeue mcp` as a program on pipes: two clients at once, one of which is killed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent

from tests.e2e.runs import PATIENCE, World, lives, pause, wait_for

SPEC = """
project: small
jobs:
  - {id: one, cmd: "echo begun; until [ -e stop ]; do PAUSE; done; echo ended", gpus: 0}
  - {id: two, cmd: "echo two", gpus: 0, depends_on: [one]}
""".replace("PAUSE", pause())
RUN = {"change": "run", "spec": "spec.yaml"}
CLIENT = """
import subprocess, sys, threading

def copy(source, to):
    while data := source.read1():
        to.write(data)
        to.flush()

command = [sys.executable, "-m", "skill", "mcp"]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
    threading.Thread(target=copy, args=(server.stdout, sys.stdout.buffer)).start()
    copy(sys.stdin.buffer, server.stdin)
    server.stdin.close()
"""
"""A client's process, which holds the pipes of its server. What it asks comes from the test."""


def work(world: World) -> Path:
    folder = world.root / "work"
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC)
    return folder


def started_by(world: World, folder: Path, *arguments: str) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=list(arguments), env=world.environment, cwd=str(folder))


async def call(client: Client, name: str, **arguments: Any) -> str:
    (content,) = (await client.call_tool(name, arguments)).content
    assert isinstance(content, TextContent)
    return content.text


def token_in(answer: str) -> str:
    found = re.search(r"token=([0-9a-f]{16})$", answer)
    assert found is not None, answer
    return found[1]


def test_of_two_clients_one_previews_a_run_the_other_starts_it_and_is_killed(world: World) -> None:
    """It takes its server along, but not the run."""
    folder = work(world)

    async def steps() -> None:
        progress_calls: list[Any] = []

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            progress_calls.append((progress, total, message))
            (folder / "stop").touch()

        first, second = started_by(world, folder, "-m", "skill", "mcp"), started_by(world, folder, "-c", CLIENT)
        async with Client(first) as one:
            assert "preview" in [tool.name for tool in (await one.list_tools()).tools]
            token = token_in(await call(one, "preview", change=RUN))
            async with Client(second) as two:
                assert "call preview first" in await call(two, "apply", change=RUN)
                assert (await call(two, "apply", change=RUN, token=token)).startswith("started small-")
                assert "was used already" in await call(one, "apply", change=RUN, token=token)
                serving = await wait_until_killed(two)
            wait_for(lambda: not lives(serving), say="the end of the server")
            waited = await one.call_tool("wait", {"timeout_s": PATIENCE}, progress_callback=tell)
            (content,) = waited.content
            assert isinstance(content, TextContent)
            ended = json.loads(content.text)
            assert (ended["why"], ended["counts"]) == ("ended", {"completed": 2})
            assert progress_calls[0][:2] == (0, 2)
            assert "ended\n" in await call(one, "logs", job="one")

    anyio.run(steps)


async def wait_until_killed(client: Client) -> int:
    """Have a client wait for the run, and kill its process then. Returns the pid of its server."""
    calls: list[tuple[float, float | None, str | None]] = []
    servers: list[int] = []

    async def kill(progress: float, total: float | None, message: str | None) -> None:
        calls.append((progress, total, message))
        if len(calls) == 1:
            (holder,) = [one for one in psutil.Process().children() if CLIENT in one.cmdline()]
            servers.extend(one.pid for one in holder.children())
            holder.kill()

    with pytest.raises(MCPError, match="closed"):
        await client.call_tool("wait", {"timeout_s": 3000}, progress_callback=kill)
    (serving,) = servers
    return serving
