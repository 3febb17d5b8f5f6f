"""The server: its tools and resources, as the protocol has them. The only module that knows the SDK."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import anyio
import anyio.from_thread
import anyio.to_thread
import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from build_manifest.faults import SpecErrors, nearest
from skill.common.errors import FailedError, UseError
from skill.mcp import applying, arguments, changes, reading, resources, waiting
from skill.mcp.arguments import Arguments

Context = ServerRequestContext[Any]
_INSTRUCTIONS = """\
Batches of ML experiments on GPU machines. A run is started from a spec (YAML) or a command with lists of values.
Read freely: list_runs, plan, status, why, logs, results, diagnose, wait. To change something, call preview with the
change, show the person what it says, then apply the same change with the token. Every answer ends with what to call
next. Answers that do not fit have pages.
"""


class Call(NamedTuple):
    """One call of a tool, for what runs in a thread: `report` sends progress, `left` is set once nobody waits."""

    report: Callable[[int, int, str], None]
    left: threading.Event


class Tool(NamedTuple):
    """A tool. `function` runs in a thread and returns the answer."""

    model: type[Arguments]
    function: Callable[[Any, Call], str]
    says: str
    reads: bool = True


def _read(function: Callable[[Any], str]) -> Callable[[Any, Call], str]:
    return lambda asked, _: function(asked)


def _apply(asked: changes.Apply, call: Call) -> str:
    progress: list[str] = []

    def say(text: str) -> None:
        progress.append(text)
        call.report(len(progress), 0, text)

    return applying.apply(asked, say)


TOOLS = {
    "list_runs": Tool(reading.ListRuns, _read(reading.list_all), "List runs, here and on hosts."),
    "plan": Tool(reading.Plan, _read(reading.plan_it), "Show what a spec would run, for how long, at what cost."),
    "status": Tool(reading.Status, _read(reading.status), "Show the status of a run, or list its jobs."),
    "why": Tool(reading.Why, _read(reading.why), "Explain the status of a job, back to the root cause."),
    "logs": Tool(reading.Logs, _read(reading.logs), "Read the log of a job, its end first."),
    "results": Tool(reading.Results, _read(reading.results_of), "Show the metrics of a run, averaged over seeds."),
    "diagnose": Tool(reading.Diagnose, _read(reading.diagnose), "Find in log files why their jobs failed."),
    "wait": Tool(
        waiting.Wait, lambda asked, call: waiting.wait(asked, call.report, call.left),
        "Wait for the end of a run, a new problem in it, or a time; reports progress.",
    ),
    "preview": Tool(
        changes.Preview, _read(applying.preview), "Show what a change would do, and get the token to apply it."
    ),
    "apply": Tool(changes.Apply, _apply, "Make a change that was previewed; takes the token of its preview.", False),
}  # fmt: skip


def server(version: str) -> Server[Any]:
    """Return the server; it answers for the present directory."""
    return Server(
        "wavequeue",
        version=version,
        instructions=_INSTRUCTIONS,
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
    )


def serve(version: str) -> None:
    """Serve on standard input and output until the client ends. What anybody prints meanwhile goes to stderr."""
    logging.basicConfig(level=logging.WARNING)
    anyio.run(_serve, server(version))


async def _serve(made: Server[Any]) -> None:
    async with stdio_server() as (reading_stream, writing_stream):
        await made.run(reading_stream, writing_stream, made.create_initialization_options())


async def _list_tools(_context: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name,
                description=tool.says,
                input_schema=arguments.schema(tool.model),
                annotations=types.ToolAnnotations(read_only_hint=tool.reads, destructive_hint=not tool.reads),
            )
            for name, tool in TOOLS.items()
        ]
    )


async def _call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    tool = TOOLS.get(params.name)
    if tool is None:
        close = nearest(params.name, TOOLS) or "list_runs"
        return _answer(f"no tool is called {params.name}; did you mean {close}?", fault=True)
    left = threading.Event()

    def report(part: int, whole: int, words: str) -> None:
        anyio.from_thread.run(context.session.report_progress, float(part), float(whole) or None, words)

    try:
        asked = arguments.read(tool.model, params.arguments or {})
        return _answer(await _in_thread(partial(tool.function, asked, Call(report, left)), left))
    except SpecErrors as error:
        faults = str(error).splitlines()
        return _answer("\n".join(faults[:20]), fault=True)
    except (UseError, FailedError) as error:
        return _answer(str(error), fault=True)
    except OSError as error:
        return _answer(f"{error.filename or 'this machine'}: {error.strerror or error}", fault=True)


async def _in_thread(function: Callable[[], Any], left: threading.Event | None = None) -> Any:
    """Run a function in a thread. Where the call is given up, `left` is set, and the function ends by itself."""
    try:
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
    finally:
        if left is not None:
            left.set()


def _answer(text: str, *, fault: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=fault)


async def _list_resources(_context: Context, _params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    found = await _in_thread(resources.newest)
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=one.uri, name=one.name, description=one.says, mime_type=one.kind) for one in found
        ]
    )


async def _list_templates(
    _context: Context, _params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(
        resource_templates=[
            types.ResourceTemplate(uri_template=uri, name=name, description=says, mime_type=kind)
            for uri, name, says, kind in resources.TEMPLATES
        ]
    )


async def _read_resource(_context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    try:
        kind, text = await _in_thread(partial(resources.read, uri))
    except (UseError, FailedError) as error:
        raise MCPError(code=types.INVALID_PARAMS, message=str(error)) from None
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, text=text, mime_type=kind)])
