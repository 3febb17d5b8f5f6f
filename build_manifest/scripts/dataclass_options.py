"""Options of a script whose dataclasses are parsed by HfArgumentParser."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from build_manifest.scripts.options import FLAG, VALUE, WORDS, Option, Script
from build_manifest.scripts.syntax import Source, called, called_name, is_true, keywords, last, type_words

_PARSERS = ("HfArgumentParser", "TrlParser", "H4ArgumentParser")
_TRAINING = ("TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "DPOConfig", "GRPOConfig", "RewardConfig")
_OF_TRAINING = (
    Option("output_dir", "--output_dir ", type="str", help="where checkpoints and results are written"),
    Option("learning_rate", "--learning_rate ", default="5e-5", type="float"),
    Option("seed", "--seed ", default="42", type="int"),
    Option("num_train_epochs", "--num_train_epochs ", default="3.0", type="float"),
    Option("per_device_train_batch_size", "--per_device_train_batch_size ", default="8", type="int"),
)
"""The options of transformers.TrainingArguments that a sweep is most often over; it has a hundred more."""


def read(source: Source) -> Script | None:
    """Return the options of a script; None where it has no such parser."""
    parser = next((node for node in source.nodes() if last(called(node)) in _PARSERS), None)
    if not isinstance(parser, ast.Call):
        return None
    first = parser.args[0] if parser.args else keywords(parser).get("dataclass_types")
    meant = first.elts if isinstance(first, (ast.Tuple, ast.List)) else [first] if first is not None else []
    options: dict[str, Option] = {}
    notes: list[str] = []
    for name in [last(called_name(one)) for one in meant]:
        found = source.class_of(name)
        if found is None and name not in _TRAINING:
            notes.append(f"the options of {name} are not read, since it is defined elsewhere")
        for option in _OF_TRAINING if name in _TRAINING else _fields(source, found) if found is not None else ():
            options.setdefault(option.name, option)
    return Script("HfArgumentParser", tuple(options.values()), notes=tuple(notes))


def _fields(source: Source, node: ast.ClassDef) -> Iterator[Option]:
    for base in node.bases:
        parent = source.class_of(last(called_name(base)))
        if parent is not None and parent is not node:
            yield from _fields(source, parent)
        elif last(called_name(base)) in _TRAINING:
            yield from _OF_TRAINING
    for one in node.body:
        if (
            isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and "ClassVar" not in type_words(one.annotation)
        ):
            option = _field(source, one.target.id, one.annotation, one.value)
            if option is not None:
                yield option


def _field(source: Source, name: str, annotation: ast.expr, value: ast.expr | None) -> Option | None:
    given: dict[str, ast.expr] = {}
    default, is_absent = value, value is None
    if isinstance(value, ast.Call) and last(called(value)) == "field":
        given = keywords(value)
        if "init" in given and not is_true(given["init"]):
            return None
        default = given.get("default")
        is_absent = default is None and "default_factory" not in given
    about = given.get("metadata")
    metadata = dict(zip(source.values(about), about.values)) if isinstance(about, ast.Dict) else {}
    words = type_words(annotation)
    inner = words.removeprefix("Optional[").removesuffix("]") if words.startswith("Optional[") else words
    inner = inner.removesuffix(" | None")
    kind = FLAG if inner == "bool" else WORDS if inner.lower().startswith(("list", "typing.list")) else VALUE
    choices = source.values(metadata.get("choices"))
    if isinstance(annotation, ast.Subscript) and last(called_name(annotation.value)) == "Literal":
        choices = source.values(annotation.slice) or choices
    return Option(
        name,
        f"--{name} ",
        kind,
        None if kind == FLAG else source.value(default),
        choices or source.members(inner, by_name=False),
        is_absent and kind != FLAG,
        words,
        source.words(metadata.get("help")),
    )
