"""The keys of a spec that name what jobs run in: conda, a venv, uv, modules, a container."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from build_manifest.faults import Mark
from build_manifest.fields import Fields, Table
from build_manifest.forms import EnvironmentForm
from build_manifest.names import is_template
from build_manifest.nodes import Scalar

_ONE_OF = ("conda", "venv", "uv", "container")
_MODULE = re.compile(r"[\w+.-]+(/[\w+.-]+)*")
_IMAGE = re.compile(r"[\w~./][\w~.:/@+-]*")


def read_environment(fields: Fields, top: Table, marks: Mapping[str, Mark]) -> EnvironmentForm:
    """Read the keys of a spec that name its environment; what is wrong is noted."""
    for one, other in itertools.combinations([key for key in _ONE_OF if key in top], 2):
        what = f"{one} and {other} cannot be used together"
        hint = "keep one of them; an image has its own packages" if other == "container" else "keep one of them"
        fields.faults.add(marks[other], what, hint)
    if "conda_hook" in top and "conda" not in top:
        fields.faults.add(marks["conda_hook"], "conda_hook has no effect without conda", "add conda: ENVIRONMENT")
    modules = [_written(fields, scalar, "module") for scalar in fields.texts(top.get("module"), "module")]
    for name in modules:
        if name is not None and not is_template(name.text) and not _MODULE.fullmatch(name.text):
            fields.faults.add(
                name.mark, f"{name.text!r} is not the name of a module", "write it as in module: [cuda/12.4]"
            )
    image = _written(fields, fields.text(top.get("container"), "container"), "container")
    if image is not None and not is_template(image.text) and not _IMAGE.fullmatch(image.text):
        what = f"{image.text!r} is not the name of an image"
        fields.faults.add(image.mark, what, "write it as in container: pytorch/pytorch:2.9.0, or a .sif file")
    return EnvironmentForm(
        conda=_text(_written(fields, fields.text(top.get("conda"), "conda"), "conda")),
        venv=_text(_written(fields, fields.text(top.get("venv"), "venv"), "venv")),
        conda_hook=_text(_written(fields, fields.text(top.get("conda_hook"), "conda_hook"), "conda_hook")),
        uv=fields.switch(top.get("uv"), "uv", "true or false") or False,
        module=tuple(name.text for name in modules if name is not None),
        container=_text(image),
    )


def _written(fields: Fields, scalar: Scalar | None, key: str) -> Scalar | None:
    if scalar is not None and is_template(scalar.text):
        fields.faults.add(scalar.mark, f"{key} is not expanded", "write it out")
    return scalar


def _text(scalar: Scalar | None) -> str | None:
    return None if scalar is None else scalar.text
