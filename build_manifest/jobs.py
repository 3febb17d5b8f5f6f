"""Make jobs of a template, or of a job as written: texts are compiled once, then rendered for each cell."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from build_manifest.background import check_background
from build_manifest.card_hints import hint_at_cards
from build_manifest.faults import Faults, Mark, listed
from build_manifest.forms import Health, JobForm, Metrics, PreconditionForm, RecoverForm, RungForm, Slurm
from build_manifest.health import check_health
from build_manifest.metrics import MetricTexts
from build_manifest.names import (
    FROM_ENV,
    KEY,
    Literal,
    RenderError,
    Scope,
    Text,
    compile_text,
    is_template,
    one_after_the_other,
)
from build_manifest.nodes import ListNode, Node, Scalar
from build_manifest.parse import NUMBERS
from build_manifest.paths import check_path
from build_manifest.recover import check_arg, check_recover
from build_manifest.shell import quote_word
from build_manifest.slurm import check_bundle
from build_manifest.values import FALSE, NULLS, SPOKEN, TRUE, Written, quantity, written
from queue_manager.core import gpu_models
from queue_manager.core.manifest import JobSpec, Precondition
from queue_manager.core.outputs import escape, escape_within
from queue_manager.core.recover_policy import ARGS, RUN, Rung, to_json

Params = dict[str, Written]
_FROM_EXPRESSION = {"True": "flag", "False": "nothing", "": "nothing"}
"""What an arg is whose value is one expression that gives this."""
_PATTERN: Literal = (escape, escape_within)
_AT_LAUNCH = "\0%s\0"
"""Stands for `${GPU}` in the value of an arg while it is quoted; no value can have it."""
_PLACES = re.compile("\0(\\w+)\0")


class Surroundings(NamedTuple):
    """What a job takes from its phase and its spec. `exported`: variables of the whole spec, as they stand there.
    `cards`: how many cards may be used, None for all there are."""

    phase: str
    where: str
    env: tuple[tuple[str, Scalar], ...]
    preconditions: tuple[PreconditionForm, ...]
    default_cmd: Scalar | None
    cards: int | None
    metrics: Metrics
    health: Health
    recover: RecoverForm | None = None
    slurm: Slurm = MappingProxyType({})
    est_minutes: float | None = None
    exported: tuple[tuple[str, Scalar], ...] = ()


class _Arg(NamedTuple):
    """`name` is None where other texts cannot use it. `shown`: as `--key values`, as a `flag`, or not at all."""

    key: str
    name: str | None
    values: tuple[Text, ...]
    plain: bool
    shown: str = "values"


class _Value(NamedTuple):
    """What an arg is in one job. `shown` as in _Arg; `own`: the value of a grid that it stands for."""

    values: list[str]
    shown: str
    own: Written | None
    plain: bool


class _Precondition(NamedTuple):
    form: PreconditionForm
    path: Text | None
    command: Text | None
    gib: Text | None


class JobMaker:
    """A compiled template. `is_valid` is False where a text could not be compiled, and `ids_known` where the id or the
    args are among them; the faults have been noted. What is not sound makes jobs too, for their ids to be checked."""

    def __init__(self, faults: Faults, form: JobForm, names: tuple[str, ...], around: Surroundings) -> None:
        self.form = form
        self._faults = faults
        self._around = around
        self._hint_at_cards()
        self._uses: set[str] = set()
        self.is_valid = True
        before = len(faults.found)
        self._scope = Scope(names, around.where)
        self._grid = names
        self._args = self._compile_args(form.args or ())
        part = form.default_id
        self.id = self._text(
            form.id,
            literal=None if part is None else (part, part),
            join="-".join if part is None else lambda words: part("-".join(words)),
        )
        self._depends_on = [(scalar, self._text(scalar)) for scalar in form.depends_on]
        self._numbers = {key: (scalar, self._text(scalar)) for key, scalar in form.numbers.items()}
        if self.id is not None and "id" not in self._scope.names:  # a grid may have its own
            self._scope = Scope((*self._scope.names, "id"), self._scope.where)
        self._cmd = self._compile_cmd()
        self._output = self._path(form.expected_output, "expected_output")
        self._cwd = self._text(form.cwd)
        self._models = [(scalar, self._text(scalar)) for scalar in form.gpu_model]
        self._env = [(name, self._text(scalar, env=True)) for name, scalar in (*around.env, *form.env)]
        self._inherited = [self._compile_precondition(one) for one in around.preconditions]
        self._preconditions = [self._compile_precondition(one) for one in form.preconditions]
        metrics = {**around.metrics, **form.metrics}
        self._metrics = MetricTexts(
            faults, metrics, tuple(self._scope.names), lambda one, literal: self._text(one, literal=literal)
        )
        health = {**around.health, **form.health}
        check_health(faults, health, metrics)
        self._health = {key: one.value for key, one in health.items()} or None
        self._slurm = {**around.slurm, **form.slurm} or None
        check_bundle(faults, form.mark, self._slurm or {}, has_timeout="timeout" in form.numbers)
        form_of = around.recover if form.recover is None else form.recover
        check_recover(faults, form_of, health, around.where)
        self._rungs = [(one, self._compile_rung(one)) for one in (form_of.rungs if form_of else ())]
        self.ids_known = self.id is not None and len(self._args) == len(form.args or ())
        self.is_valid = self.is_valid and self._cmd is not None and len(faults.found) == before
        if self.is_valid and form.cmd:
            self._check_args_used()

    def _text(
        self,
        scalar: Scalar | None,
        *,
        shell: bool = False,
        gpu: bool = False,
        literal: Literal | None = None,
        join: Callable[[Sequence[str]], str] | None = None,
        env: bool = False,
    ) -> Text | None:
        if scalar is None:
            return None
        text = compile_text(
            self._faults, scalar, self._scope, shell=shell, gpu=gpu, literal=literal, join=join, env=env
        )
        if text is None:
            self.is_valid = False
        else:
            self._uses |= text.uses
        return text

    def _path(self, scalar: Scalar | None, what: str) -> Text | None:
        """A path or glob, in which values stand for themselves."""
        if scalar is None:
            return None
        if not check_path(self._faults, scalar, what, self._scope.names):
            self.is_valid = False
            return None
        return self._text(scalar, literal=_PATTERN)

    def _compile_cmd(self) -> Text | None:
        form, default = self.form, self._around.default_cmd
        if form.cmd:
            texts = [self._text(one, shell=True, gpu=True) for one in form.cmd]
            check_background(self._faults, "\n".join([one.text for one in form.cmd]), form.cmd[-1])
            whole = [text for text in texts if text is not None]
            return one_after_the_other(whole) if len(whole) == len(texts) else None
        if "cmd" in form.given:
            return None
        if form.args is not None:
            if default is None:
                hint = "add default_cmd at the top, or cmd here"
                self._faults.add(form.mark, "args without cmd need a default_cmd", hint)
                return None
            check_background(self._faults, default.text, default)
            return self._text(default, shell=True, gpu=True)
        if "args" not in form.given:
            hint = "add cmd: …" + ("" if default is None else ", or args: {…} for default_cmd (args: {} for it alone)")
            self._faults.add(form.mark, f"{self._around.where} has no cmd", hint)
        return None

    def _hint_at_cards(self) -> None:
        form, default = self.form, self._around.default_cmd
        cmd = form.cmd or (() if default is None else (default,))
        values = [one for _, node in form.args or () for one in (node.items if isinstance(node, ListNode) else (node,))]
        cards = form.numbers["gpus"].text if "gpus" in form.numbers else None
        texts = [*cmd, *(one for one in values if isinstance(one, Scalar))]
        hint_at_cards(self._faults, texts, (*self._around.exported, *self._around.env, *form.env), cards)

    def _check_args_used(self) -> None:
        unused = [arg.key for arg in self._args if arg.key not in self._uses]
        if unused:
            what = f"nothing uses the args {listed(unused)}: they are only added to default_cmd, but this job has a cmd"
            self._faults.add(self.form.mark, what, f"use ${{{unused[0]}}} in cmd, or remove cmd")

    def _compile_args(self, entries: Iterable[tuple[Scalar, Node]]) -> list[_Arg]:
        """Each arg may use the grid's names, and those of the args before it."""
        args: list[_Arg] = []
        for key, node in entries:
            what = f"arg {key.text!r}"
            items = node.items if isinstance(node, ListNode) else (node,)
            if isinstance(node, ListNode) and not items:
                self._faults.add(node.mark, f"{what} is an empty list", "write a value, or remove the key")
            texts: list[Text] = []
            for item in items:
                if not isinstance(item, Scalar):
                    self._faults.add(item.mark, f"{what} is nested", "write a single value, or a list of them")
                elif item.plain and item.text in SPOKEN:
                    truth = "true" if SPOKEN[item.text] else "false"
                    hint = f'write {truth} for the flag --{key.text}, or "{item.text}" for the text'
                    self._faults.add(item.mark, f"{what} is {item.text}, which YAML may read as {truth}", hint)
                elif text := self._text(item, gpu=True):
                    texts.append(text)
            if len(texts) < len(items):
                continue
            single = node if isinstance(node, Scalar) else None
            substituted = single is not None and is_template(single.text)
            plain = single is not None and single.plain and not substituted
            usable = single is not None and KEY.fullmatch(key.text) and not texts[0].for_gpu
            shown = "values"
            if single is not None and plain and single.text in NULLS:
                usable, shown = None, "nothing"
            elif single is not None and plain and single.text in TRUE | FALSE:
                shown = "flag" if single.text in TRUE else "nothing"
            if usable and key.text not in self._scope.names:
                self._scope = Scope((*self._scope.names, key.text), self._scope.where)
            args.append(_Arg(key.text, key.text if usable else None, tuple(texts), plain or substituted, shown))
        return args

    def _compile_precondition(self, form: PreconditionForm) -> _Precondition:
        return _Precondition(
            form,
            self._text(form.path) if form.type == "disk_free_gib" else self._path(form.path, "a precondition's path"),
            self._text(form.command, shell=True),
            self._text(form.gib),
        )  # fmt: skip

    def _compile_rung(self, rung: RungForm) -> Text | _Arg | None:
        """The command, or the changed arg, of a rung of the ladder."""
        if rung.kind == RUN and rung.command is not None:
            check_background(self._faults, rung.command.text, rung.command)
            return self._text(rung.command, shell=True, gpu=True)
        if rung.arg is None or rung.value is None:
            return None
        args = {arg.key: arg for arg in self._args}
        has_cmd = bool(self.form.cmd)
        if not check_arg(self._faults, rung.arg, args, self._grid, self._around.where, has_cmd=has_cmd):
            return None
        found = self._compile_args([(rung.arg, rung.value)])
        if found and len(found[0].values) > 1 and len(args[rung.arg.text].values) == 1:
            what = f"recover changes {rung.arg.text!r} to a list, and {self._around.where} has a single value"
            self._faults.add(rung.value.mark, what, "write a single value")
        return found[0] if found else None

    def make(self, cell: Params) -> JobSpec | None:
        """Make the job of one cell; None, with the fault noted, if an expression fails or a number is not one."""
        try:
            return self._make(dict(cell))
        except RenderError as error:
            of = f" (for {show(cell)})" if cell else ""
            self._faults.add(error.mark, f"{error}{of}", "fix the expression", once=("render", error.mark))
            return None

    def _make(self, names: Params) -> JobSpec | None:
        cell = dict(names)
        arguments, params = self._render_args(names)
        assert self.id is not None
        name = self.id.render(names)
        depends_on = tuple(dict.fromkeys([text.render(names) for _, text in self._depends_on if text]))
        if not self.is_valid or self._cmd is None:
            return JobSpec(name, "", self._around.phase, depends_on, params=params)
        numbers = self._render_numbers(names)
        if numbers is None:
            return None
        names.setdefault("id", written(name, plain=False))
        cmd = self._cmd.render(names).rstrip() + ("" if self.form.cmd else arguments)
        env = {name: text.render(names) for name, text in self._env if text} if self._env else {}
        output = None if self._output is None else self._output.render(names)
        return JobSpec(
            id=name,
            cmd=cmd,
            phase=self._around.phase,
            depends_on=depends_on,
            gpus=numbers.get("gpus", 1),
            gpu_mem_mib=numbers.get("gpu_mem_mib"),
            expected_output=output,
            cwd=None if self._cwd is None else self._cwd.render(names),
            env={name: value for name, value in env.items() if FROM_ENV not in value} if env else {},
            timeout=numbers.get("timeout"),
            grace=numbers.get("grace"),
            priority=numbers.get("priority", 0),
            retries=numbers.get("retries", 0),
            preconditions=self._render_preconditions(names, output),
            params=params,
            env_from={name: tuple(text.split(FROM_ENV)) for name, text in env.items() if FROM_ENV in text},
            metrics=self._metrics.make(names),
            health=self._health,
            recover=self._render_rungs(cell, names, params) if self._rungs else None,
            slurm=self._slurm,
            gpu_model=self._render_models(names, numbers),
            errexit=self.form.errexit,
            wandb=self.form.wandb,
            est_minutes=numbers.get("est_minutes", self._around.est_minutes),
        )

    def _render_args(self, names: Params, changed: Mapping[str, _Value] = {}) -> tuple[str, dict[str, str]]:
        """The arguments for default_cmd, and what was given by name; `names` gains the args. `changed`: args that have
        another value."""
        params = {name: value.text for name, value in names.items()}
        words: list[str] = []
        for arg in self._args:
            one = changed.get(arg.key) or _value(arg, names)
            if arg.name is not None:
                names.setdefault(arg.name, one.own or written(one.values[0], one.plain))
            if one.shown != "nothing" or arg.name is not None:
                params.setdefault(arg.key, _PLACES.sub(r"${\1}", " ".join(one.values)))
            if one.shown == "values" and len(one.values) == 1 and one.values[0].startswith("-"):
                words.append(f"--{arg.key}={_quote_arg(one.values[0])}")
            elif one.shown != "nothing":
                shown = one.values if one.shown == "values" else []
                words.append(" ".join([f"--{arg.key}", *(_quote_arg(value) for value in shown)]))
        return "".join(f" {word}" for word in words), params

    def _render_rungs(self, cell: Params, names: Params, params: dict[str, str]) -> list[dict[str, Any]] | None:
        """The ladder of one job. The values of a rung that changes an arg see those of the rungs below it."""
        made: list[Rung] = []
        changed: dict[str, _Value] = {}
        for form, compiled in self._rungs:
            if isinstance(compiled, _Arg):
                key, before = compiled.key, params.get(compiled.key, "")
                changed[key] = _value(compiled, names)
                last, names = names, dict(cell) | {"id": names["id"]}
                arguments, params = self._render_args(names, changed)
                if params.get(key, "") == before:
                    what = f"recover changes {key!r} to {before!r}, which it is already"
                    self._faults.add(form.mark, what, "write another value", once=("rung", form.mark))
                self._check_places(form, key, last, names)
                assert self._cmd is not None
                cmd = self._cmd.render(names).rstrip() + ("" if self.form.cmd else arguments)
                made.append(Rung(ARGS, cmd, arg=key, value=params.get(key, ""), was=before))
            elif compiled is not None:
                made.append(Rung(RUN, compiled.render(names).rstrip(), form.timeout))
            else:
                made.append(Rung(form.kind))
        return to_json(tuple(made))

    def _check_places(self, form: RungForm, key: str, before: Params, after: Params) -> None:
        """Note that a changed arg would change where a job's results are searched for, or which job it is."""
        texts = (("id", self.id), ("expected_output", self._output))
        moved = [what for what, text in texts if text is not None and text.render(before) != text.render(after)]
        moved += ["metrics"] if self._metrics.make(before) != self._metrics.make(after) else []
        if moved:
            what = f"recover changes {key!r}, and with it the {moved[0]} of {self._around.where}"
            hint = f"leave ${{{key}}} out of {moved[0]}: the job stays the same one, with the same results"
            self._faults.add(form.mark, what, hint, once=("moved", form.mark))

    def _render_numbers(self, names: Params) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        for key, (scalar, text) in self._numbers.items():
            if text is not None:
                try:
                    found[key] = NUMBERS[key](text.render(names))
                except RenderError:
                    raise
                except ValueError as error:
                    what = f"{key} is {text.render(names)!r} for {show(names)}"
                    self._faults.add(scalar.mark, what, str(error), once=(key, scalar.mark))
                    return None
        cards = found.get("gpus", 1)
        mark = self._mark_of("gpus")
        if cards == 0 and "gpu_mem_mib" in found:
            what = "gpu_mem_mib on a job with gpus: 0, which uses no GPU"
            self._faults.add(self._mark_of("gpu_mem_mib"), what, "remove one of them")
        if self._around.cards is not None and cards > self._around.cards:
            hint = "use fewer, or allow more" + ("; a job without a GPU has gpus: 0" if cards == 1 else "")
            allowed = _cards(self._around.cards)
            what = f"{self._around.where} needs {_cards(cards)}, but gpus at the top allows {allowed}"
            self._faults.add(mark, what, hint, once=("cards", mark, self._around.where))
        return found

    def _render_models(self, names: Params, numbers: Mapping[str, Any]) -> tuple[str, ...]:
        found = []
        for scalar, text in self._models:
            model = "" if text is None else text.render(names).strip()
            fault = gpu_models.fault(model)
            if fault is not None:
                what, hint = fault.split("; ")
                self._faults.add(scalar.mark, f"gpu_model is {model!r}: {what}", hint, once=("model", scalar.mark))
            elif numbers.get("gpus", 1) == 0:
                what = "gpu_model on a job with gpus: 0, which uses no GPU"
                self._faults.add(scalar.mark, what, "remove one of them", once=("model", scalar.mark))
            found.append(model)
        return tuple(dict.fromkeys(found))

    def _mark_of(self, key: str) -> Mark:
        return self.form.numbers[key].mark if key in self.form.numbers else self.form.mark

    def _render_preconditions(self, names: Params, output: str | None) -> tuple[Precondition, ...]:
        """Those of the spec and the phase, then the job's own. What the job itself makes is not asked of it, so that
        a spec may ask for the teachers' checkpoints and train the teachers too."""
        if not (self._inherited or self._preconditions):
            return ()
        inherited = [self._render_precondition(one, names) for one in self._inherited]
        own = [self._render_precondition(one, names) for one in self._preconditions]
        return (*(one for one in inherited if not _makes(output, one)), *own)

    def _render_precondition(self, one: _Precondition, names: Params) -> Precondition:
        gib = None
        if one.gib is not None and one.form.gib is not None:
            text = one.gib.render(names)
            try:
                gib = quantity(text)
            except ValueError as error:
                raise RenderError(one.form.gib.mark, f"gib is {text!r}; {error}") from None
        return Precondition(
            one.form.type,
            None if one.path is None else one.path.render(names),
            None if one.command is None else one.command.render(names).rstrip(),
            gib,
        )


def _value(arg: _Arg, names: Params) -> _Value:
    """Return the value of an arg in one job."""
    values = [text.render(names, _AT_LAUNCH) for text in arg.values]
    shown, own = arg.shown, names.get(arg.values[0].name or "") if len(arg.values) == 1 else None
    if own is not None:
        values = list(own.words or values)
        shown = "flag" if own.truth else "nothing" if own.truth is False or own.nothing else shown
    elif len(arg.values) == 1 and arg.values[0].is_expression and values[0] in _FROM_EXPRESSION:
        shown = _FROM_EXPRESSION[values[0]]
    return _Value(values, shown, own, arg.plain)


def show(cell: Mapping[str, Written]) -> str:
    """Format a cell for a message: `N=384, seed=42`."""
    return listed([f"{name}={value.text}" for name, value in cell.items()])


def _makes(output: str | None, one: Precondition) -> bool:
    if output is None or one.path is None or one.type not in ("checkpoint_exists", "file_exists"):
        return False
    return posixpath.normpath(one.path) == posixpath.normpath(output)


def _cards(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"


def _quote_arg(value: str) -> str:
    if "\0" not in value:
        return quote_word(value)
    pieces = _PLACES.split(value)
    return "".join([f"${{{one}}}" if n % 2 else quote_word(one) if one else "" for n, one in enumerate(pieces)])
