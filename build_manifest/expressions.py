"""Jinja2 expressions, and nothing else of Jinja2: in its sandbox, with known filters, and with every operation weighed.

The only module that knows Jinja2. The same expression over the same values gives the same text.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jinja2
import jinja2.meta
import jinja2.sandbox
from jinja2.runtime import Context

from build_manifest.expression_bounds import MAX_SOURCE, MAX_TEXT, Meter, TooMuch, check_call, check_operation

_CACHED = 10_000
_HALF = re.compile("[\ud800-\udfff]")

_FILTERS = (
    "abs", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "first", "float", "format", "groupby",
    "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr",
    "replace", "reverse", "round", "select", "selectattr", "slice", "sort", "string", "sum", "title", "tojson", "trim",
    "truncate", "unique", "upper", "urlencode", "wordcount", "wordwrap",
)  # fmt: skip
"""Those that mean something in a spec. What concerns HTML, or chance, does not."""
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset({
        "capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format", "index", "isalnum",
        "isalpha", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "isupper", "join", "ljust", "lower",
        "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition",
        "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill",
    })),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (list, frozenset({"count", "index"})),
    (tuple, frozenset({"count", "index"})),
    (float, frozenset({"is_integer"})),
    (int, frozenset({"bit_length"})),
)  # fmt: skip


class ExpressionError(ValueError):
    """An expression cannot be read, or fails. The message says why, without naming it."""


class Raw(str):
    """Text that is not to be quoted for the shell."""

    __slots__ = ()


class _Bounded(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Check every operation, call and filter before and after it."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self) -> None:
        # Nothing is computed while an expression is compiled: nobody weighs it there.
        super().__init__(undefined=jinja2.StrictUndefined, optimized=False)
        self.meter = Meter()
        known = self.filters
        self.filters = {name: self._weighed(name, known[name]) for name in _FILTERS}
        self.filters["raw"] = Raw
        self.globals = {"range": self._range, "dict": dict}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        return any(isinstance(obj, kind) and attr in names for kind, names in _METHODS)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        check_operation(operator, left, right)
        return self.meter.take(self.binop_table[operator](left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Jinja2's own signature: names with underscores leave all others to the arguments."""
        if __obj is not dict and __obj != __self._range:
            method = getattr(__obj, "__wrapped__", __obj)
            on = getattr(method, "__self__", None)
            name = getattr(method, "__name__", "")
            if isinstance(__obj, jinja2.Undefined):
                __obj._fail_with_undefined_error()
            if not any(isinstance(on, kind) and name in names for kind, names in _METHODS):
                raise ExpressionError(f"{name or 'this'} cannot be called in a spec")
            check_call(name, on, args, kwargs)
        return __self.meter.take(_whole(__context.call(__obj, *args, **kwargs)))

    def _range(self, *bounds: int) -> range:
        made = range(*bounds)
        if made and (len(made) if abs(made[-1] - made[0]) < MAX_TEXT**2 else MAX_TEXT + 1) > MAX_TEXT:
            raise TooMuch(f"makes a list of more than {MAX_TEXT:,}")
        return made

    def _weighed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        passed = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def weighed(*args: Any, **kwargs: Any) -> Any:
            if len(args) > passed:
                given = args[passed]
                if isinstance(given, Iterator):
                    given = _whole(given)
                    args = (*args[:passed], given, *args[passed + 1 :])
                check_call(name, given, args[passed + 1 :], kwargs)
            return self.meter.take(_whole(function(*args, **kwargs)))

        return weighed


def _whole(value: Any) -> Any:
    """Return what a filter would yield step by step, as a list."""
    if isinstance(value, Iterator):
        made = list(itertools.islice(value, MAX_TEXT + 1))
        if len(made) > MAX_TEXT:
            raise TooMuch(f"makes a list of more than {MAX_TEXT:,}")
        return made
    return list(value) if isinstance(value, (type({}.keys()), type({}.values()), type({}.items()))) else value


_ENVIRONMENT = _Bounded()


class Expression(NamedTuple):
    """A compiled expression. `names`: what it uses, sorted. `inside`: what each is called in `call`."""

    names: tuple[str, ...]
    inside: tuple[str, ...]
    call: Callable[..., Any]
    cache: dict[tuple[Any, ...], str]

    def evaluate(self, values: Mapping[str, Any], meter: Meter) -> str:
        """Return the text of the expression over `values`; a Raw one if it is not to be quoted. Raises
        ExpressionError."""
        own = {inner: values[name] for inner, name in zip(self.inside, self.names)}
        # 1 and True, or a text and a number that prints like it, are equal as keys and not as values.
        key = tuple([(type(one), str(one)) for one in own.values()])
        text = self.cache.get(key)
        if text is None:
            text = _evaluate(self.call, own, meter)
            if len(self.cache) < _CACHED:
                self.cache[key] = text
        return text


def compile_expression(source: str, known: Collection[str] = ()) -> Expression:
    """Compile what stands between `{{` and `}}`. Raises ExpressionError with what is wrong.

    Of the `known` names those with a `.` or `-` in them (`optimizer.lr`, `n-hidden`) are meant wherever they stand
    outside of quotes and without spaces.
    """
    if len(source) > MAX_SOURCE:
        raise ExpressionError(f"it is longer than {MAX_SOURCE:,} characters")
    source, renamed = _rename(source, [name for name in known if "." in name or "-" in name])
    try:
        tree = _ENVIRONMENT.parse("{{" + source + "}}")
        call = _ENVIRONMENT.compile_expression(source, undefined_to_none=False)
        inside = tuple(sorted(jinja2.meta.find_undeclared_variables(tree)))
        return Expression(tuple([renamed.get(name, name) for name in inside]), inside, call, {})
    except (jinja2.TemplateSyntaxError, jinja2.TemplateAssertionError) as error:
        raise ExpressionError(f"{error.message}") from None
    except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError):
        raise ExpressionError("it is nested too deeply, or is not an expression") from None


def _rename(source: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Replace `names` in the source by names that Jinja2 can read; return what each of these stands for."""
    if not any(name in source for name in names):
        return source, {}
    inner = {name: "_" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in name) for name in names}
    longest = sorted(names, key=len, reverse=True)
    words = re.compile(rf"{_QUOTED}|(?<![\w.\-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])")
    source = words.sub(lambda match: inner.get(match[0], match[0]), source)
    return source, {new: name for name, new in inner.items()}


_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""


def _evaluate(call: Callable[..., Any], values: Mapping[str, Any], meter: Meter) -> str:
    meter.begin()
    _ENVIRONMENT.meter = meter
    try:
        value = call(values)
        if isinstance(value, jinja2.Undefined):
            value._fail_with_undefined_error()
        text = str(meter.take(value)) if isinstance(value, (str, int, float)) else ""
    except TooMuch as error:
        raise ExpressionError(str(error)) from None
    except Exception as error:  # whatever an expression raises is the spec's fault
        raise ExpressionError(f"fails: {str(error)[:300] or type(error).__name__}") from None
    if not isinstance(value, (str, int, float)):
        kind = "nothing" if value is None else f"a {type(value).__name__}"
        raise ExpressionError(f"gives {kind}, not a text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(f"gives {text}, not a usable number")
    if "\0" in text:
        raise ExpressionError("gives the character U+0000")
    if _HALF.search(text):
        raise ExpressionError("gives half of a character (a lone surrogate)")
    return Raw(text) if isinstance(value, Raw) else text
