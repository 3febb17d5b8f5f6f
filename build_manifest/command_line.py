"""Check a job that is given on the command line like one of a spec. Pure."""

from __future__ import annotations

from build_manifest.background import check_background
from build_manifest.card_hints import hint_at_cards
from build_manifest.faults import Faults, Mark, SpecErrors
from build_manifest.names import check_quotes
from build_manifest.nodes import Scalar
from build_manifest.paths import check_path
from build_manifest.secrets import warn_of_secrets


def check_job(command: str, expected_output: str | None, gpus: int) -> list[str]:
    """Return warnings about a job, one line each. Raises SpecErrors with what is wrong."""
    faults = Faults("--cmd", command)
    scalar = _scalar(command)
    check_background(faults, command, scalar)
    check_quotes(faults, scalar, command)
    hint_at_cards(faults, (scalar,), (), str(gpus))
    warn_of_secrets(faults, scalar)
    outputs = Faults("--expected-output", expected_output or "")
    if expected_output is not None:
        check_path(outputs, _scalar(expected_output), "it", ())
    if faults.found or outputs.found:
        raise SpecErrors([*faults.found, *outputs.found])
    return faults.warnings()


def _scalar(text: str) -> Scalar:
    return Scalar(text, False, Mark(0, 0), 0, len(text))
