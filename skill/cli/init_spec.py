"""The spec that `wavequeue init` writes: small, commented, and ready to run on any machine."""

from __future__ import annotations

import re

_TEXT = """\
# A sweep for wavequeue. See what it would do, then run it:
#   wavequeue plan @FILE@
#   wavequeue run @FILE@
project: @PROJECT@            # runs are named after it
# cwd: code                   # where jobs run; a relative path is meant from this file. Absent: beside this file
# conda: my_env               # or venv: .venv
# env: {WANDB_MODE: offline}  # exported to every job
max_parallel: 2               # jobs at a time; leave it out and only the GPUs bound them

phases:
  - name: train
    grid:                     # one job for each combination: here 2 x 2 = 4
      lr: [1e-3, 1e-4]
      seed: [0, 1]
    template:
      id: "lr${lr}_seed${seed}"
      # Put your own command here. What follows only writes its values into a file.
      cmd: mkdir -p out && echo "{\\"lr\\":" ${lr} ", \\"seed\\":" ${seed} "}" > out/train_lr${lr}_seed${seed}.json
      gpus: 0                 # GPUs it needs; leave this line out and it gets one to itself
      # gpu_mem_mib: 9000     # may share a GPU on which so much is free
      expected_output: "out/train_lr${lr}_seed${seed}.json"   # the job is completed only when this was written

  - name: evaluate
    depends_on: train
    match: [lr]               # each job waits only for the training jobs with its own lr
    grid:
      lr: [1e-3, 1e-4]
    template:
      id: "eval_lr${lr}"
      cmd: cat out/train_lr${lr}_seed*.json > out/eval_lr${lr}.txt
      gpus: 0
      retries: 1              # another attempt after a failure; one that ran out of GPU memory is retried anyway
      expected_output: "out/eval_lr${lr}.txt"
"""


def text(project: str, file: str) -> str:
    """Return the starter spec. `project`: any words, turned into a project name. `file`: its own file name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", project).strip("._-")[:60] or "experiment"
    return _TEXT.replace("@PROJECT@", name).replace("@FILE@", file)
