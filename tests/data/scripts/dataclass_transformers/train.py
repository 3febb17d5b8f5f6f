from dataclasses import dataclass, field
from typing import List, Optional

from transformers import HfArgumentParser, Trainer, TrainingArguments, set_seed


@dataclass
class ModelArguments:
    """Which model to start from."""

    model_name_or_path: str = field(metadata={"help": "Path or name of a model"})
    cache_dir: Optional[str] = field(default=None, metadata={"help": "Where models are kept"})
    use_fast: bool = field(default=True)
    lora_rank: int = 8


@dataclass
class DataArguments:
    dataset: str = "wikitext"
    max_length: Optional[int] = field(default=1024)
    splits: List[str] = field(default_factory=lambda: ["train"])


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    set_seed(training_args.seed)


if __name__ == "__main__":
    main()
