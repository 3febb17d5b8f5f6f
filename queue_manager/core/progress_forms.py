r"""The progress that a training log shows: step, total, loss and rate, in the known forms. Pure.

Known are the bars of tqdm (also Lightning's and Hugging Face's), rich and Keras, and lines such as `step 120/5000`,
`Epoch [3/10], Step [120/600]`, `iter: 40`. What a log does not show is None and never guessed: bars of downloads,
loading and evaluation do not count, nor do ranks other than the first. Every pattern is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Union

from queue_manager.core.metric_rules import number

_MAX_LINE = 1000
"""Characters of a line that are searched."""


class Progress(NamedTuple):
    """The progress of a training. `rate`: steps per second, as the log itself says. Where a log counts the steps of
    each epoch, `step` counts over all epochs, and `total` is known if the number of epochs is."""

    step: int | None = None
    total: int | None = None
    loss: float | None = None
    rate: float | None = None


class _Count(NamedTuple):
    """A counter in a log. `rank`: of two counters the one with the higher rank is the finer one."""

    rank: int
    name: str
    step: int
    total: int | None
    epoch: int | None = None
    epochs: int | None = None
    base: int | None = None
    """What the first epoch is called, 0 or 1, where the form says that."""


_EPOCHS, _BARE, _STEPS = 1, 2, 3
_MAY = re.compile(
    r"\d%[| ]|\d/ {0,8}\d|\dit \[|step|Step|STEP|iter|Iter|ITER|poch|EPOCH|pdate|loss|Loss|LOSS|logging_writer"
    r"|[Cc]ompil|[Ll]oad|[Ss]av|[Ee]val|[Vv]alid|[Tt]est"
)
"""Every line of interest matches this."""
_RANK = re.compile(r"^\s{0,4}\[(?:rank|default|trainer|RANK)[ :]?(\d{1,6})\]:? ?|^\s{0,4}(\d{1,5}): (?=\S)")
_OFF = re.compile(
    r"\b(?:eval\w{0,12}|valid\w{0,12}|val|test|predict\w{0,8}|inference|download\w{0,4}|upload\w{0,4}|map|filter|sanity"
    r"|load\w{0,4}|cache|files?|shards?|wandb)\b|(?:^|[_/(])(?:eval|val|test|valid|validation)(?:[_/)]|$)",
    re.IGNORECASE,
)
"""Words before a counter that show that it is not the training's."""
_DOING = re.compile(
    r"\b(?!(?:pre-?|fine-?)?(?:train|tun|learn|fitt|optimi[sz]|distill|updat)ing\b)[a-z]{3,20}ing\b", re.I
)
"""A word for another activity, such as Tokenizing."""
_BUSY = re.compile(
    r"\b(?:compil(?:e|ing|ation)|loading|saving|evaluat(?:e|ing|ion)|validat(?:e|ing|ion)|downloading|testing"
    r"|inductor|warming up)\b",
    re.IGNORECASE,
)
"""Words of a line without a counter that show another activity for a while."""

_TQDM = re.compile(
    r"^(?P<name>.{0,200}?):?\s{0,8}\d{1,3}%(?:\|[^|]{0,300}\||(?= \d))\s{0,4}(?P<n>\d{1,12})/(?P<total>\d{1,12}) "
    r"\[[\d:]{1,16}<(?:[\d:]{1,16}|\?)(?:, {1,3}(?P<rate>[\d.]{1,12}|\?) ?(?P<unit>[^\s,\]]{1,24}))?"
)
_TQDM_OPEN = re.compile(
    r"^(?P<name>[^\d]{0,80}?):?\s{0,4}(?P<n>\d{1,12})(?P<total>)(?:it|steps?|batch(?:es)?) "
    r"\[[\d:]{1,16}, {1,3}(?P<rate>[\d.]{1,12}|\?) ?(?P<unit>[^\s,\]]{1,24})"
)
_OF_ALL = re.compile(r"bar (?:(?:total|global|train|training) )?steps$", re.IGNORECASE)
"""A bar that goes on over all epochs, though they have headings."""
_UNITS = re.compile(r"^(?:(?:it|iter|iters|step|steps|batch|batches|update|updates|epoch|epochs|ep)/s|s/[a-z]{2,8})$")
_RICH = re.compile(
    r"^(?P<name>.{0,80}?)\s{1,8}[━╸╺ ]{5,300}\s{0,4}(?P<n>\d{1,12})/(?P<total>\d{1,12})\s{1,4}[\d:-]{1,16} • "
    r"[\d:-]{1,16}(?:\s{1,4}(?P<rate>[\d.]{1,12}))?(?P<unit>it/s|)"
)
_KERAS = re.compile(r"^\s{0,12}(\d{1,12})/(\d{1,12})\s{1,4}(?:\[[=>. ]{5,300}\]|[━╸╺ ]{5,300})")
_EPOCH_BATCH = re.compile(
    r"(?:\bepoch(?:\(train\))?:?\s{0,8}\[?|\btrain(?:ing)?: ?\[(?=[\d /]{3,24}\]\[))\s{0,4}(?P<epoch>\d{1,9})(?!\d)"
    r"(?:\s?/\s?(?P<epochs>\d{1,9})(?!\d))?\]?"
    r"\s{0,4}[,:|-]?\s{0,8}(?:\w{0,16}(?:step|iter|batch|iteration)s?:?\s{0,4})?[\[(]?\s{0,8}(?P<n>\d{1,12})\s{0,4}/"
    r"\s{0,8}(?P<total>\d{1,12})",
    re.IGNORECASE,
)
_EPOCH = re.compile(
    r"(?<![\w-])epoch(?!s)['\"]?\s{0,8}[:=#]?\s{0,8}\[?\(?\s{0,8}(?P<n>\d{1,9})(?!\d|\.\d)\s{0,4}(?:(?:/|of)\s{0,4}"
    r"(?P<total>\d{1,9}))?",
    re.IGNORECASE,
)
_STEP = re.compile(
    r"(?<![\w.-])(?:(?:global|train|training|learning|opt)[ _-]?)?"
    r"(?P<word>steps?|iter|iters|iterations?|it|updates?|num_updates|batch)['\"]?(?:\(train\))?"
    r"(?P<sign>\s{0,8}[:=#]\s{0,8}|\s{0,8})['\"\[(]?\s{0,16}(?P<n>\d{1,12}(?:,\d{3}){0,3})(?![\d.]?\d|[A-Za-z])\]?"
    r"(?:\s{0,8}(?:/|of)\s{0,16}(?P<total>\d{1,12}(?:,\d{3}){0,3}))?",
    re.IGNORECASE,
)
_SHARE = re.compile(r"(?<!\d)\d{1,12}\s{0,4}/\s{0,4}\d{1,12}")
_TABLE = re.compile(r"^\|\s{1,40}total_timesteps\s{1,40}\|\s{1,8}(\d{1,12})\s{1,40}\|")
_CLU = re.compile(r"logging_writer\.py:\d{1,5}\] \[(\d{1,12})\] ")
_NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,3})?|\.\d{1,20}(?:[eE][-+]?\d{1,3})?|nan|inf(?:inity)?)"
_LOSS = re.compile(
    r"loss['\"]?(?![A-Za-z_])(?: train(?: \(curr\))?)?\s{0,8}[:=]?\s{0,8}['\"]?(?:tensor\()?"
    rf"(?P<value>{_NUMBER})(?![A-Za-z\d])",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w/.]{0,24}$")
_TRAIN_LOSS = re.compile(
    r"^(?:|(?:.{0,20}[/.])?(?:train(?:ing)?|total|avg|avr|mean|average|batch|step|lm)?_?)$", re.IGNORECASE
)
_OTHER_LOSS = re.compile(
    r"\b(?:val|valid|validation|eval|evaluation|test|dev|aux|best|value|function|surrogate|policy|actor|critic|symmetry"
    r"|(?<!cross )(?<!cross-)(?<!cross_)entropy)[ _/.-]{1,3}$",
    re.IGNORECASE,
)
"""What stands before a loss that is not the training's, or only a part of it, as in reinforcement learning."""
_VALUE = re.compile(r"[\w/.]{1,40}[=:]\s{0,4}\S{1,40}")
_PER_SECOND = re.compile(
    r"(?<![\w.])([\d.]{1,16}) ?(?:it|iters?|steps?|batch(?:es)?|iterations?)/s(?:ec)?\b"
    r"|\bglobal_step/sec: ?([\d.]{1,16})"
)
_EACH = re.compile(
    r"(?<![\w.])([\d.]{1,16}) ?(us|ms|s|sec)/(?:it|iter|step|batch)\b"
    r"|\b(?:elapsed )?time per iteration \((ms|s)\): ?([\d.]{1,16})"
    r"|\biter(?:ation)? time(?: \((ms|s)\))?: ?([\d.]{1,16}) ?(ms\b)?"
    r"|(?<![\w/])(ms|s)/(?:it|iter|step|batch)\s{1,4}([\d.]{1,16})"
)
_NANOGPT = re.compile(r"(?:^|\s)iter \d{1,12}: loss \S{1,16}, time ([\d.]{1,16})ms")
_ETA_TIME = re.compile(
    r"\beta:? .{0,400}?\btime:? ([\d.]{1,12})|^Epoch: \[\d{1,6}\]\[.{0,40}\bTime\s{1,4}([\d.]{1,12}) \("
)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, None: 1.0}


class ProgressReader:
    """Reads one log line by line. `progress`: a regular expression whose group 1 is the step and group 2, where there
    is one, the total; `loss`: one whose group 1 is the loss. With them the known forms are not used."""

    KEPT = (
        "busy", "line", "losses", "_now", "_rank", "_name", "_sure", "_epoch", "_epochs", "_base", "_others",
    )  # fmt: skip
    """All that it has learned from the lines so far; see kept."""

    def __init__(self, progress: str | None = None, loss: str | None = None) -> None:
        self._progress = None if progress is None else re.compile(progress).search
        self._loss = None if loss is None else re.compile(loss).search
        self.busy = True
        """Whether the job loads, compiles, evaluates or saves, as far as its log tells: its steps need not go on."""
        self.line = ""
        """The last line about the training."""
        self.losses = 0
        """Lines with a loss so far."""
        self._now = Progress()
        self._rank = 0
        self._name: str | None = None
        self._sure = False
        self._epoch: int | None = None
        self._epochs: int | None = None
        self._base = 1
        self._others: set[str] = set()

    @property
    def progress(self) -> Progress:
        """The progress shown by the lines so far."""
        return self._now

    def take(self, line: str) -> bool:
        """Read a line without its end. Returns whether it showed a step or a loss of the training."""
        if self._progress is None and self._loss is None and _MAY.search(line) is None:
            return False
        text = line[:_MAX_LINE]
        rank = _RANK.match(text)
        if rank is not None:
            if int(rank[1] or rank[2]):
                return False
            text = text[rank.end() :]
        counted = self._own_step(text) if self._progress is not None else self._known_step(text)
        value = self._own_loss(text) if self._loss is not None else None if counted is False else _known_loss(text)
        if value is not None:
            self._now = self._now._replace(loss=value)
            self.losses += 1
            self._sure = True
        if counted:
            self.busy = False
        elif counted is False or (value is None and self._progress is None and _BUSY.search(text) is not None):
            self.busy = True
        if counted or value is not None:
            self.line = text
        return bool(counted) or value is not None

    def _own_step(self, text: str) -> bool | None:
        assert self._progress is not None
        found = self._progress(text)
        if found is None:
            return None
        groups = [None if one is None else number(one.replace(",", "")) for one in found.groups()[:2]]
        if groups[0] is None or not abs(groups[0]) < 1e15:
            return None
        total = groups[1] if len(groups) > 1 else None
        step, whole = int(groups[0]), None if total is None or not abs(total) < 1e15 else int(total)
        self._now = self._now._replace(step=step, total=whole, rate=_rate(text))
        return True

    def _own_loss(self, text: str) -> float | None:
        assert self._loss is not None
        found = self._loss(text)
        return None if found is None or found[1] is None else number(found[1])

    def _known_step(self, text: str) -> bool | None:
        for read in _FORMS:
            found = read(text)
            if found is not None:
                return False if found is False else self._count(*found)
        return None

    def _count(self, count: _Count, rate: float | None) -> bool | None:
        """Apply a counter. Returns whether it is the training's; None where a finer one is known."""
        if count.epoch is not None:
            self._see_epoch(count.epoch, count.epochs, count.base)
        elif count.name == "epoch":
            self._see_epoch(count.step, count.total, None)
        if count.name == "keras" and self._epoch is None:  # predict and evaluate draw the same bar, without an epoch
            return False
        if count.name.startswith(("bar ", "keras")) and not self._is_main(count):
            return False
        if count.rank < self._rank:
            return None
        self._rank = count.rank
        step, total = count.step, count.total
        if count.rank == _STEPS and total is not None and self._epoch is not None and self._per_epoch(count):
            step += max(0, self._epoch - self._base) * total
            total = None if self._epochs is None else self._epochs * total
        self._now = self._now._replace(step=step, total=total, rate=rate)
        return True

    def _see_epoch(self, epoch: int, epochs: int | None, base: int | None) -> None:
        if self._epoch is None:
            self._base = min(epoch, 1) if base is None else base
            if not self._sure and self._rank == _STEPS:  # what was counted before the first epoch was no training
                self._rank, self._name = 0, None
        self._epoch = epoch
        # Counted from 0, "of 10" is the number of epochs to some, and the last one's name to others.
        self._epochs = epochs if self._base == 1 or base is not None else None

    def _per_epoch(self, count: _Count) -> bool:
        """Return whether a counter restarts with each epoch."""
        if count.epoch is None and _OF_ALL.match(count.name):
            return False
        return count.epoch is not None or count.name == "keras" or count.name.startswith("bar ")

    def _is_main(self, bar: _Count) -> bool:
        """Return whether a bar is the training's, and not of another activity."""
        name = f"{bar.name} {bar.total}"
        if name == self._name:
            return True
        now = self._now
        over = now.step is not None and now.total is not None and now.step >= now.total
        if self._name is None or (over and not self._sure and self._epoch is None and name not in self._others):
            self._name, self._rank = name, 0
            return True
        if not over:
            self._others.add(name)
        return False


_Found = Union["tuple[_Count, float | None]", Literal[False], None]
"""A counter and its rate; False for a counter of something other than the training."""


def _bar(text: str) -> _Found:
    is_rich = " • " in text
    found = _TQDM.match(text) if "%|" in text or "% " in text else _RICH.match(text) if is_rich else None
    if found is None and " [" in text and "%|" not in text:
        found = _TQDM_OPEN.match(text)
    if found is None:
        return False if "%|" in text else None  # a bar in bytes, as of a download
    name, unit = found["name"].strip(), found["unit"] or ""
    if _is_off(name) or (unit and unit != "?" and not _UNITS.match(unit)):
        return False
    rate = None if found["rate"] in (None, "?") else number(found["rate"])
    if rate is not None and unit.startswith("s/"):
        rate = 1 / rate if rate else None
    total = int(found["total"]) if found["total"] else None
    epoch = _EPOCH.search(name) or re.match(r"(?P<n>\d{1,6})/(?P<total>\d{1,6})\s", name)
    e, of = (None, None) if epoch is None else (int(epoch["n"]), epoch["total"])
    label = re.sub(r"[\d.]+|[\w/]{0,20}loss.*", "", name).strip()
    epochs = None if of is None else int(of) + is_rich  # Lightning's rich bar tells the last epoch's name
    base = 0 if is_rich or "v_num" in text else None
    return _Count(_STEPS, f"bar {label[:60]}", int(found["n"]), total, e, epochs, base), rate


def _keras(text: str) -> _Found:
    found = _KERAS.match(text)
    return None if found is None else (_Count(_STEPS, "keras", int(found[1]), int(found[2])), _rate(text))


def _epoch_batch(text: str) -> _Found:
    found = _EPOCH_BATCH.search(text) if "poch" in text or "POCH" in text or "rain" in text else None
    if found is None:
        return None
    if _is_off(text[: found.start()]):
        return False
    epochs = None if found["epochs"] is None else int(found["epochs"])
    count = _Count(_STEPS, "batch", int(found["n"]), int(found["total"]), int(found["epoch"]), epochs)
    return count, _rate(text)


def _step(text: str) -> _Found:
    for found in _STEP.finditer(text):
        total = None if found["total"] is None else int(found["total"].replace(",", ""))
        word, sign = found["word"].lower(), found["sign"].strip()
        rest = text[found.end() :]
        numbers = any(char.isdigit() for char in rest)
        if word in ("batch", "it") and total is None and not (word == "it" and sign):
            continue
        if word in ("steps", "iters", "iterations", "updates") and total is None and "loss" not in rest.lower():
            continue
        if total is None and not sign and not numbers and rest.strip(" ]):,.|"):  # a heading such as Step 1: prepare
            continue
        if _is_off(text[: found.start()]):
            return False
        rank = _BARE if total is None else _STEPS
        return _Count(rank, "step", int(found["n"].replace(",", "")), total), _rate(text)
    return None


def _other(text: str) -> _Found:
    found = _TABLE.match(text) or _CLU.search(text)
    return None if found is None else (_Count(_BARE, "step", int(found[1]), None), _rate(text))


def _epoch(text: str) -> _Found:
    found = _EPOCH.search(text) if "poch" in text or "POCH" in text else None
    if found is None:
        return False if any(_OFF.search(text[: share.start()]) for share in _SHARE.finditer(text)) else None
    if _is_off(text[: found.start()]):
        return False
    total = None if found["total"] is None else int(found["total"])
    return _Count(_EPOCHS, "epoch", int(found["n"]), total), None


_FORMS: tuple[Callable[[str], _Found], ...] = (_bar, _keras, _epoch_batch, _step, _other, _epoch)

_FIRST, _RARE, _LAST = 2, 4, 6


def worth_reading(lines: Sequence[str]) -> list[str]:
    """Return which of many lines a reader has to see: the last ones show the present progress, and the lines between
    redrawn bars (headings of epochs, losses) rarely matter."""
    if len(lines) <= 2 * (_FIRST + _LAST):
        return list(lines)
    chosen = {*range(_FIRST), *range(len(lines) - _LAST, len(lines))}
    for word in ("poch", "oss"):
        places = [n for n, line in enumerate(lines) if word in line]
        chosen.update((*places[:1], *places[-_RARE:]))
    return [lines[n] for n in sorted(chosen)]


def _is_off(before: str) -> bool:
    """Return whether the text before a counter shows that it is not the training's."""
    return bool(before) and (_OFF.search(before) or _DOING.search(before)) is not None


def _ending(text: str) -> str:
    """Return the beginning of the name that continues where a text ends."""
    found = _NAME.search(text[-24:])
    return "" if found is None else found[0]


def _known_loss(text: str) -> float | None:
    for found in _LOSS.finditer(text):
        whole = text[: found.start()]
        name = _ending(whole)
        before = whole[: len(whole) - len(name)]
        if not _TRAIN_LOSS.match(name) or _OTHER_LOSS.search(before[-24:]) or _OFF.search(name):
            continue
        if _OFF.search(_VALUE.sub("", before[:40])):
            continue
        return number(found["value"])
    return None


def _rate(text: str) -> float | None:
    """Return steps per second, where a line shows them."""
    found = _PER_SECOND.search(text)
    if found is not None:
        return number(found[1] or found[2])
    found = _EACH.search(text)
    if found is not None:
        unit = found[2] or found[3] or found[5] or found[7] or found[8]
        value = number(found[1] or found[4] or found[6] or found[9])
    else:
        found = _NANOGPT.search(text)
        unit = "ms" if found is not None else "s"
        found = found or _ETA_TIME.search(text)
        value = None if found is None else number(next(one for one in found.groups() if one is not None))
    return None if not value else 1 / (value * _SECONDS[unit])
