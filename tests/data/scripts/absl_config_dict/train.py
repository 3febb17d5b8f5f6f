"""A script with a configuration of ml_collections beside its flags."""

from absl import app
from absl import flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", "configs/default.py")
for size in ("train", "test"):
    flags.DEFINE_integer(f"{size}_size", 10, "Examples")
flags.DEFINE_multi_enum("metrics", ["loss"], ["loss", "acc"], "What to report.")
flags.mark_flags_as_required(["config"])

if __name__ == "__main__":
    app.run(lambda argv: None)
