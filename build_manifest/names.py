"""Substitute `${name}` and `{{ expression }}` in the texts of a spec.

A text is compiled once for all jobs of a template, and rendered for each. `$${` gives a literal `${`, and `${GPU}` is
left for launch where that is allowed. Expressions are Jinja2, in a sandbox, over the same names; they see unquoted
numbers as numbers and yet print them as they were written. In a command every value is quoted for the shell, by the
place where it stands; `{{ name | raw }}` is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Union

from build_manifest.expression_bounds import Meter
from build_manifest.expressions import Expression, ExpressionError, Raw, compile_expression
from build_manifest.faults import Faults, Mark, listed, nearest
from build_manifest.nodes import Scalar, locate
from build_manifest.shell import Quote, Scanner, quote_word
from build_manifest.values import Written

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*")
"""A key of a grid or an arg: a name, or several with dots and dashes between them."""
RESERVED = ("GPU", "GPU_INDEX")
"""Names that are filled in at launch: the cards by their number on the host, and as the job counts them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FROM_ENV = "\0"
"""Around a name of the environment in a text that was rendered; no value can have it."""
_TOKEN = re.compile(r"\$\$\{|\$\{|\{\{")
_STATEMENT = re.compile(r"\{%[-+]?\s*(?:if|for|set|else|elif|endif|endfor|macro|include|import|raw)\b")
_SHOWN = 160
_LITERAL_BRACES = "braces for the shell are written {{ '{{' }}"


class RenderError(ValueError):
    """An expression of a text fails for a job. `mark` is its place."""

    def __init__(self, mark: Mark, what: str) -> None:
        super().__init__(what)
        self.mark = mark


class _Name(NamedTuple):
    name: str
    quote: Quote | None
    cache: dict[str, str]
    join: Callable[[Sequence[str]], str] | None
    """How several words are written here; None: as the text has them."""


class _Expression(NamedTuple):
    expression: Expression
    source: str
    quote: Quote | None
    mark: Mark
    meter: Meter


class _Gpu(NamedTuple):
    """The place of one of RESERVED."""

    name: str


class _FromEnv(NamedTuple):
    """The place of `${env:NAME}`."""

    name: str


_Part = Union[str, _Name, _Expression, _Gpu, _FromEnv]
_AT_LAUNCH = "env:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Text(NamedTuple):
    """A compiled text. `uses`: the names in it. `for_gpu`: whether something in it is filled in at launch."""

    parts: tuple[_Part, ...]
    uses: frozenset[str]

    @property
    def for_gpu(self) -> bool:
        return any(isinstance(part, _Gpu) for part in self.parts)

    @property
    def name(self) -> str | None:
        """Return the name if the text is one name, and nothing else."""
        part = self.parts[0] if len(self.parts) == 1 else None
        return part.name if isinstance(part, _Name) else None

    @property
    def is_expression(self) -> bool:
        """Tell whether the text is one expression, and nothing else."""
        return len(self.parts) == 1 and isinstance(self.parts[0], _Expression)

    def render(self, cell: Mapping[str, Written], gpu: str = "${%s}") -> str:
        """Render the text for one job; `gpu` replaces `${GPU}`. Raises RenderError."""
        done = []
        for part in self.parts:
            if isinstance(part, str):
                done.append(part)
            elif isinstance(part, _Name):
                own = cell[part.name]
                value = own.text
                if own.words is not None and part.join is not None:
                    done.append(part.join(own.words))
                    continue
                if part.quote is not None:
                    quoted = part.cache.get(value)
                    if quoted is None:
                        quoted = part.cache[value] = part.quote(value)
                    value = quoted
                done.append(value)
            elif isinstance(part, _Gpu):
                done.append(gpu % part.name)
            elif isinstance(part, _FromEnv):
                done.append(f"{FROM_ENV}{part.name}{FROM_ENV}")
            else:
                done.append(_evaluate(part, cell))
        return done[0] if len(done) == 1 else "".join(done)


Literal = tuple[Quote, Quote]
"""How a value is written so that it stands for itself: at the beginning of a text, and within it."""


class Scope(NamedTuple):
    """The names that a text may use. `where` says whose they are, such as "phase 'distill'"."""

    names: Collection[str]
    where: str


def one_after_the_other(texts: Sequence[Text]) -> Text:
    """Join commands as the lines of one."""
    if len(texts) == 1:
        return texts[0]
    parts: list[_Part] = []
    for text in texts:
        parts += [*text.parts, "\n"]
    return Text(tuple(parts[:-1]), frozenset().union(*(text.uses for text in texts)))


def is_template(text: str) -> bool:
    """Tell whether something is substituted in a text."""
    return "${" in text or "{{" in text


def compile_text(
    faults: Faults,
    scalar: Scalar,
    scope: Scope,
    *,
    shell: bool = False,
    gpu: bool = False,
    literal: Literal | None = None,
    join: Callable[[Sequence[str]], str] | None = None,
    env: bool = False,
) -> Text | None:
    """Compile a scalar. `shell`: it is bash, so values are quoted. `gpu`: `${GPU}` may stay in it. `literal`: how a
    value is written in it, so that it stands for itself. `join`: how several words are written in it.
    `env`: `${env:NAME}` may stay in it, see FROM_ENV.

    Returns None, with the faults noted, where names are undefined or the syntax is broken.
    """
    text = scalar.text
    statement = _STATEMENT.search(text)
    if statement:
        what = f"{statement[0]} … is a Jinja2 statement; only {{{{ … }}}} expressions are known"
        faults.add(scalar.mark, what, "write {{ 'a' if x else 'b' }}")
        return None
    if not is_template(text):
        if shell:
            check_quotes(faults, scalar, text)
        return Text((text,), frozenset())
    return _Compiler(faults, scalar, scope, Scanner() if shell else None, gpu, literal, join, env).run()


def check_quotes(faults: Faults, scalar: Scalar, text: str, scanner: Scanner | None = None) -> None:
    """Warn of a quote that a command leaves open. `scanner`: one that has read the command."""
    if scanner is None:
        if not any(quote in text for quote in "'\"`"):
            return
        scanner = Scanner()
        scanner.feed(text)
    if scanner.open_quote is not None:
        faults.warn(scalar.mark, f"in this command a {scanner.open_quote} opens and is never closed")


class _Compiler:
    """One pass over one text."""

    def __init__(
        self,
        faults: Faults,
        scalar: Scalar,
        scope: Scope,
        scanner: Scanner | None,
        gpu: bool,
        literal: Literal | None,
        join: Callable[[Sequence[str]], str] | None,
        env: bool,
    ) -> None:
        self._faults = faults
        self._env = env
        self._scalar = scalar
        self._scope = scope
        self._gpu = gpu
        self._scanner = scanner
        self._literally = literal
        self._join = join
        self._parts: list[_Part] = []
        self._uses: set[str] = set()
        self._start = 0
        self._broken = False

    def run(self) -> Text | None:
        text, at = self._scalar.text, 0
        while match := _TOKEN.search(text, at):
            self._start = match.start()
            self._literal(text[at : self._start])
            if match[0] == "$${":
                self._literal("${")
                at = match.end()
            elif match[0] == "${":
                at = self._dollar(text, match.start())
            else:
                at = self._braces(text, match.start())
        self._literal(text[at:])
        if self._scanner is not None and not self._broken:
            check_quotes(self._faults, self._scalar, text, self._scanner)
        return None if self._broken else Text(tuple(self._parts), frozenset(self._uses))

    def _literal(self, text: str) -> None:
        if not text:
            return
        if self._scanner is not None:
            self._scanner.feed(text)
        if self._parts and isinstance(self._parts[-1], str):
            self._parts[-1] += text
        else:
            self._parts.append(text)

    def _dollar(self, text: str, start: int) -> int:
        end = text.find("}", start)
        if end < 0:
            self._fault("${", "${ opens here and is never closed", "write ${name}, or $${ for the shell")
            return len(text)
        token, name = text[start : end + 1], text[start + 2 : end]
        if name in RESERVED:
            if self._gpu:
                self._parts.append(_Gpu(name))
                if self._scanner is not None:
                    self._scanner.feed("0")
            else:
                self._fault(token, f"{token} is filled in at launch, and only in a command", "use it in cmd")
        elif name.startswith(_AT_LAUNCH):
            of = name[len(_AT_LAUNCH) :]
            if not _VARIABLE.fullmatch(of):
                self._fault(token, f"{token!r} names no variable", "write ${env:NAME}")
            elif self._env:
                self._parts.append(_FromEnv(of))
            else:
                hint = f"write env: {{{of}: {{from: {of}}}}}, and $${{{of}}} here where it is for the shell"
                self._fault(token, f"{token} is filled in at launch, and only in values of env", hint)
        elif name not in self._scope.names and not KEY.fullmatch(name):
            bare = name.strip()
            if KEY.fullmatch(bare):
                self._fault(
                    token, f"a name is written in braces without spaces, not as {token!r}", f"write ${{{bare}}}"
                )
            else:
                shell = f"write $${text[start + 1 : end + 1]} to pass it to the shell"
                self._fault(token, f"{token!r} is not a valid ${{name}}", shell)
        elif name not in self._scope.names:
            self._undefined(token, name, f"$${{{name}}} passes it to the shell")
        else:
            self._uses.add(name)
            quote = self._quote(token)
            join = _in_words if quote is quote_word else self._join
            self._parts.append(_Name(name, quote, {}, join))
        return end + 1

    def _braces(self, text: str, start: int) -> int:
        end = _expression_end(text, start + 2)
        if end is None:
            self._fault("{{", "{{ opens here and is never closed by }}", _LITERAL_BRACES)
            return len(text)
        token, source = text[start:end], text[start + 2 : end - 2]
        if source.startswith(("-", "+")) or source.endswith("-"):
            self._fault(
                token, f"{token!r}: whitespace control is not supported here", "put a space after {{ and before }}"
            )
            return end
        try:
            expression = compile_expression(source, self._scope.names)
        except ExpressionError as error:
            self._fault(token, f"{_clip(token)!r} is not a Jinja2 expression: {error}", _LITERAL_BRACES)
            return end
        variables = expression.names
        for name in variables:
            if name in RESERVED:
                self._fault(token, f"{name} is known only at launch", f"write ${{{name}}}")
            elif name not in self._scope.names:
                self._undefined(token, name, _LITERAL_BRACES)
        self._uses.update(variables)
        if not self._broken:
            quote = self._quote(token)
            if quote is quote_word and not _NAME.fullmatch(source.strip()):
                quote = _word_or_nothing
            self._parts.append(_Expression(expression, token, quote, self._mark(token), self._faults.meter))
        return end

    def _quote(self, token: str) -> Quote | None:
        if self._scanner is None:
            return None if self._literally is None else self._literally[1 if self._parts else 0]
        if self._scanner.escaped:
            hint = f"write ${token} to pass it to the shell" if token.startswith("$") else _LITERAL_BRACES
            self._fault(token, f"a backslash before {token} does not keep it from being replaced", hint)
            self._scanner = Scanner()
        return self._scanner.quote()

    def _undefined(self, token: str, name: str, shell: str) -> None:
        close = nearest(name, self._scope.names)
        names = listed(self._scope.names)
        there = f"defined names: {names}" if names else "no names are defined"
        guess = f"did you mean {close!r}? " if close else ""
        self._fault(token, f"nothing in {self._scope.where} defines {name!r}", f"{guess}{there}; {shell}")

    def _mark(self, token: str) -> Mark:
        return locate(self._faults, self._scalar, token, self._scalar.text.count(token, 0, self._start))

    def _fault(self, token: str, what: str, instead: str) -> None:
        self._broken = True
        self._faults.add(self._mark(token), what, instead)


def _in_words(words: Sequence[str]) -> str:
    return " ".join([quote_word(word) for word in words])


def _word_or_nothing(value: str) -> str:
    """Return what an expression gives; nothing at all if it is the empty text, as from one that chooses a flag or
    none."""
    return quote_word(value) if value else ""


def _expression_end(text: str, at: int) -> int | None:
    """Find where the expression that begins at `at` ends, after its `}}`; strings and inner braces are skipped."""
    depth, quote = 0, ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        elif text.startswith("}}", at):
            return at + 2
        at += 1
    return None


def _clip(source: str) -> str:
    """Shorten an expression for a message."""
    return source if len(source) <= _SHOWN else f"{source[: _SHOWN - 4]}… }}}}"


def _evaluate(part: _Expression, cell: Mapping[str, Written]) -> str:
    try:
        values = {name: cell[name].value for name in part.expression.names}
        text = part.expression.evaluate(values, part.meter)
    except ExpressionError as error:
        raise RenderError(part.mark, f"{_clip(part.source)} {error}") from None
    return text if part.quote is None or isinstance(text, Raw) else part.quote(text)
