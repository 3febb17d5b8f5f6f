"""Call an agent's command: prompt on stdin, reply in WQ_REPLY or in the output, everything kept in logs/.

The agent gets the usual variables and those that config.json allows, and no others. Its keys stay on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skill.auto import envelopes, process, reply, trouble
from skill.auto.config import AgentSpec
from skill.auto.layout import WorkDir
from skill.auto.ports import Answer, Request, Trouble
from skill.common import files
from skill.common.errors import UseError
from skill.common.typed_json import pretty

if TYPE_CHECKING:
    from skill.auto.campaign import Campaign

USUAL = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""Variables that every agent gets, where they are set."""
_MOST_LOGGED = 1 << 20
"""Characters of an agent's output in logs/, at most: the last ones."""


class CommandAgent:
    """Calls the command of `spec`. `render`: gives the prompt of a request; `clock`: seconds since 1970; `zone`: of
    clock times that an agent prints, None: this machine's."""

    def __init__(
        self,
        spec: AgentSpec,
        workdir: WorkDir,
        render: Callable[[Request, Campaign], str],
        *,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        zone: tzinfo | None = None,
    ) -> None:
        self._spec, self._workdir, self._render, self._clock = spec, workdir, render, clock
        self._zone = zone
        given = os.environ if environment is None else environment
        self._environment = {name: given[name] for name in (*USUAL, *spec.env) if name in given}
        self._mark = hashlib.sha256(str(workdir.root.resolve()).encode()).hexdigest()[:16]
        self._scratch = f"wq-agent-{self._mark}-"

    def ask(self, request: Request, campaign: Campaign, cwd: Path | None, stop: threading.Event) -> Answer | Trouble:
        """Render the prompt, run the command, read the reply; write prompt, output and cost into logs/.

        `cwd`: the node's worktree; None: an empty directory. Once `stop` is set, the command and all that it started
        are killed at once.
        """
        prompt = self._log(request, "prompt.md")
        files.make_directory(prompt.parent)
        files.write_whole(prompt, self._render(request, campaign), durable=False, errors="replace")
        with tempfile.TemporaryDirectory(prefix=self._scratch) as made:
            empty = Path(made) / "empty"
            files.make_directory(empty)
            schema = Path(made) / "schema.json"
            files.write_whole(schema, reply.schema_text(request.role), durable=False)
            written = (Path(made) if cwd else empty) / "reply.json"
            environment = {
                **self._environment,
                "WQ_ROLE": request.role,
                "WQ_NODE": request.node or "",
                "WQ_SCHEMA": str(schema),
                "WQ_REPLY": str(written),
            }
            try:
                ended = process.run(
                    self._spec.cmd, cwd=cwd or empty, environment=environment, mark=f"{self._mark}/{request.ask}/",
                    timeout=self._spec.timeout, stop=stop, stdin=prompt,
                )  # fmt: skip
            except OSError as error:
                ended = process.Ended(127, "exit", "", f"{self._spec.cmd[0]}: {error.strerror or error}", 0.0)
            contents = envelopes.read(self._spec.envelope, ended.output)
            outcome, text = self._judge(request, ended, contents, written)
        self._keep(request, ended, contents, outcome, text)
        return outcome

    def end_leftovers(self) -> None:
        """Kill the calls of a loop that was killed, with all that they started, and remove their directories."""
        process.kill_marked(f"{self._mark}/")
        for left in Path(tempfile.gettempdir()).glob(f"{self._scratch}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _judge(
        self, request: Request, ended: process.Ended, contents: envelopes.Contents, written: Path
    ) -> tuple[Answer | Trouble, str]:
        """What came of a call, and the text of the reply."""
        usd, seconds = contents.cost_usd, ended.seconds
        if ended.how == "stopped":
            return Trouble("interrupted", "ended because the loop stops", usd, seconds), contents.text
        if ended.how == "timeout":
            late = f"no reply within {self._spec.timeout:g} s; agent.timeout in config.json allows more"
            return Trouble("timeout", late, usd, seconds), contents.text
        if ended.code != 0 or contents.error is not None:
            return self._trouble(
                contents.error or f"{ended.output[-20000:]}\n{ended.errors[-20000:]}", ended, usd
            ), contents.text
        try:
            text = _reply_text(written, contents.text)
            return Answer(reply.read(request.role, text), usd, seconds), text
        except reply.ReplyError as error:
            if trouble.is_trouble(contents.text):
                return self._trouble(contents.text, ended, usd), contents.text
            return Trouble("malformed", str(error), usd, seconds), contents.text

    def _trouble(self, text: str, ended: process.Ended, usd: float | None) -> Trouble:
        reason = trouble.read(text, self._clock(), self._zone or datetime.now().astimezone().tzinfo or trouble.UTC)
        words = reason.message or "it printed nothing"
        message = words if ended.code == 0 else f"the agent ended with exit code {ended.code}: {words}"
        return Trouble(reason.kind, message, usd, ended.seconds, reason.until)

    def _log(self, request: Request, end: str) -> Path:
        return self._workdir.logs / f"{request.ask:04d}_{request.role}_{end}"

    def _keep(
        self, request: Request, ended: process.Ended, contents: envelopes.Contents, outcome: Answer | Trouble, text: str
    ) -> None:
        raw: dict[str, Any] = {
            "ask": request.ask,
            "role": request.role,
            "node": request.node,
            "command": list(self._spec.cmd),
            "digest": digest(self._spec.cmd),
            "outcome": "answered" if isinstance(outcome, Answer) else outcome.kind,
            "error": None if isinstance(outcome, Answer) else outcome.text,
            "cost_usd": contents.cost_usd,
            "seconds": round(ended.seconds, 3),
            "exit_code": ended.code,
            "stdout": ended.output[-_MOST_LOGGED:],
            "stderr": ended.errors[-_MOST_LOGGED:],
        }
        files.write_whole(self._log(request, "output.md"), text[-_MOST_LOGGED:], durable=False, errors="replace")
        files.write_whole(self._log(request, "raw.json"), pretty(raw), durable=False, errors="replace")


def find_command(command: Sequence[str], beside: Path) -> tuple[str, ...]:
    """The command, with the full paths of its program and of the files that it names relative to `beside`: an agent
    is called in many directories. Raises UseError where the program is not found."""
    if not command:
        raise UseError("agent.cmd is empty; name the agent's command, such as: claude -p --output-format json")
    program = command[0]
    found = shutil.which(str(beside / program) if "/" in program else program)
    if found is None:
        raise UseError(f"the agent's command {program!r} was not found; install it, or name another with --agent")
    rest = [str((beside / one).resolve()) if _is_file_of(one, beside) else one for one in command[1:]]
    return (os.path.abspath(found), *rest)


def _is_file_of(word: str, folder: Path) -> bool:
    try:
        return not word.startswith("-") and (folder / word).is_file()
    except (OSError, ValueError):
        return False


def digest(command: Sequence[str]) -> str:
    """The SHA-256 of a command and of the files that it names: what was called cannot pass for something else."""
    total = hashlib.sha256(json.dumps(list(command)).encode())
    for word in command:
        path = Path(word)
        if path.is_absolute() and _is_file_of(word, Path("/")):
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    total.update(data)
    return total.hexdigest()


def _reply_text(written: Path, otherwise: str) -> str:
    """What the agent wrote into WQ_REPLY, or else the text of its output. Raises ReplyError."""
    try:
        return files.read_text(written, reply.MOST)
    except FileNotFoundError:
        return otherwise
    except UseError as error:
        raise reply.ReplyError(f"WQ_REPLY cannot be used: {error}") from None
