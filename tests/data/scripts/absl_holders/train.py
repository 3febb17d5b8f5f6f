from enum import Enum

from absl import app, flags


class Task(Enum):
    COPY = 1
    SORT = 2


_TASK = flags.DEFINE_enum_class("task", Task.COPY, Task, "What to learn.")
_STEPS = flags.DEFINE_integer(name="num_steps", default=10_000, help="Steps to run.")
_DATA = flags.DEFINE_string("data_dir", None, "Data.")
flags.mark_flag_as_required("data_dir")


def main(_):
    pass


if __name__ == "__main__":
    app.run(main)
