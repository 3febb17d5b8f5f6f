"""`wavequeue mcp` as a program on pipes: two clients at once, and a client that is killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client, StdioServerParameters
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
import os, sys
import anyio
from mcp import Client, StdioServerParameters

RUN = {"change": "run", "spec": "spec.yaml"}

async def main():
    server = StdioServerParameters(command=sys.executable, args=["-m", "skill", "mcp"], env=dict(os.environ))
    async with Client(server) as client:
        async def tell(progress, total, message):
            print("waits", flush=True)
        shown = await client.call_tool("preview", {"change": RUN})
        await client.call_tool("apply", {"change": RUN, "token": shown.content[0].text[-16:]})
        await client.call_tool("wait", {"timeout_s": 3000}, progress_callback=tell)

anyio.run(main)
"""


def work(world: World) -> Path:
    folder = world.root / "work"
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC)
    return folder


def server(world: World, folder: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "skill", "mcp"], env=world.environment, cwd=str(folder)
    )


async def call(client: Client, name: str, **arguments: Any) -> str:
    (content,) = (await client.call_tool(name, arguments)).content
    assert isinstance(content, TextContent)
    return content.text


def token_in(answer: str) -> str:
    found = re.search(r"token=([0-9a-f]{16})$", answer)
    assert found is not None, answer
    return found[1]


def test_two_clients_share_a_run_that_one_previews_and_the_other_starts(world: World) -> None:
    folder = work(world)

    async def steps() -> None:
        progress_calls: list[Any] = []

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            progress_calls.append((progress, total, message))
            (folder / "stop").touch()

        async with Client(server(world, folder)) as one, Client(server(world, folder)) as two:
            assert "preview" in [tool.name for tool in (await one.list_tools()).tools]
            token = token_in(await call(one, "preview", change=RUN))
            assert "call preview first" in await call(two, "apply", change=RUN)
            assert (await call(two, "apply", change=RUN, token=token)).startswith("started small-")
            assert "was used already" in await call(one, "apply", change=RUN, token=token)
            waited = await one.call_tool("wait", {"timeout_s": PATIENCE}, progress_callback=tell)
            (content,) = waited.content
            assert isinstance(content, TextContent)
            ended = json.loads(content.text)
            assert (ended["why"], ended["counts"]) == ("ended", {"completed": 2})
            assert progress_calls[0][:2] == (0, 2)
            assert "ended\n" in await call(two, "logs", job="one")

    anyio.run(steps)


def test_a_client_that_is_killed_takes_its_server_along_and_not_the_run(world: World) -> None:
    folder = work(world)

    command = [sys.executable, "-c", CLIENT]
    with subprocess.Popen(command, cwd=folder, env=world.environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "waits\n"
        (serving,) = [one for one in psutil.Process(client.pid).children() if "mcp" in one.cmdline()]
        client.send_signal(signal.SIGKILL)
    wait_for(lambda: not lives(serving.pid), say="the end of the server")
    (folder / "stop").touch()
    (state,) = folder.glob("experiment_queue/*/queue_state.json")
    wait_for(lambda: json.loads(state.read_text())["meta"]["manager"] == "finished", say="the end of the run")
    assert json.loads(state.read_text())["counts"]["completed"] == 2
