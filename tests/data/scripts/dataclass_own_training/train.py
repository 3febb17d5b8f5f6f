import dataclasses
from typing import Literal

import transformers
from peft_settings import PeftSettings


@dataclasses.dataclass
class Arguments(transformers.TrainingArguments):
    schedule: Literal["cosine", "linear"] = "cosine"
    temperature: float = dataclasses.field(default=0.7, metadata={"help": "of sampling", "choices": [0.7, 1.0]})


if __name__ == "__main__":
    parser = transformers.HfArgumentParser([Arguments, PeftSettings])
    args, peft = parser.parse_args_into_dataclasses()
