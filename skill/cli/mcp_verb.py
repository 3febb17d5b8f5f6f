"""The verb mcp."""

from __future__ import annotations

import contextlib
import gc
import sys

import click

from skill import __version__
from skill.common.errors import UseError
from skill.terminal import safe_output


@click.command("mcp", short_help="Serve runs to agents by the Model Context Protocol.")
def mcp_verb() -> None:
    """Serve runs to agents by the Model Context Protocol, on standard input and output, for the present directory.

    Claude Code starts it after: claude mcp add wavequeue -- wavequeue mcp (see docs/agents.md).

    An agent may read everything. To change something it first asks for a preview, whose token allows only that.
    """
    gc.disable()  # of what is imported nothing is garbage, and to look for it takes a seventh of the start
    try:
        from skill.mcp import server
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types", "pydantic", "anyio"):
            raise
        raise UseError("this needs the extra mcp, which is not installed: pip install 'wavequeue[mcp]'") from None
    finally:
        gc.freeze()
        gc.enable()
    with contextlib.redirect_stdout(safe_output.behind(sys.stdout)):  # the protocol is JSON, which escapes by itself
        server.serve(__version__)
