# wavequeue: job s2_N512, attempt 1
trap 'exit 143' TERM
set -o pipefail
IFS= read -r _wq < /proc/$$/stat && printf '%s\n' "$_wq" > started
cd -- /home/user/old || { printf '%s\n' 'wavequeue: the cwd is not there: /home/user/old'; exit 66; }
unset _wq
export WAVEQUEUE_JOB_ID=s2_N512
export WAVEQUEUE_RUN_ID=old-20261125-000000
export WAVEQUEUE_ATTEMPT=1
export WANDB_MODE=offline
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export CUDA_VISIBLE_DEVICES=1
until [ -e go ]; do sleep 0.1; done; echo 2 512 > out_2_512; false; true
