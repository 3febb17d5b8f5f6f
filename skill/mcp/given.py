"""The spec that a tool is given: a file, or the words of a command."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from build_manifest.written_spec import NOTHING_SAID, JobOptions
from skill.common.errors import UseError
from skill.mcp.arguments import Arguments
from skill.operations import make_spec
from skill.operations.build_spec import Given

Spec = Annotated[str | None, Field(description="A spec (YAML or JSON), or a .txt file with a command a line")]


class GivenSpec(Arguments):
    """What says which jobs are meant."""

    spec: Spec = None
    command: Annotated[
        tuple[str, ...],
        Field(description="Instead: the words of a command; 1e-3,1e-2 and 0..4 are lists: a job for each combination"),
    ] = ()
    gpus: Annotated[int | None, Field(ge=0, description="With command: GPUs of each job; 0 for the CPU")] = None
    gpu_mem_mib: Annotated[int | None, Field(ge=1, description="With command: GPU memory of each, to share")] = None
    output: Annotated[str | None, Field(description="With command: the file each writes, as out/{id}.json")] = None

    def given(self) -> Given:
        """Return the spec. Raises UseError unless there is one, and SpecErrors."""
        options = JobOptions(None, self.gpus, self.gpu_mem_mib, self.output)
        if (self.spec is None) != bool(self.command):
            raise UseError("give either spec, a file, or command, a list of words")
        if self.spec is None:
            return make_spec.of_command(self.command, options)
        if make_spec.is_made(self.spec):
            return given_spec(self.spec, options)
        if any(one is not None for one in options):
            raise UseError(f"gpus, gpu_mem_mib and output are for a command; write them into {self.spec}")
        return given_spec(self.spec)


def given_spec(spec: str, options: JobOptions = NOTHING_SAID) -> Given:
    """Return the spec of a file. Raises UseError, and SpecErrors for a file of commands."""
    if spec == make_spec.STDIN:
        raise UseError("give the name of a file as spec; there is no standard input here")
    return make_spec.of_file(spec, options=options) if make_spec.is_made(spec) else spec
