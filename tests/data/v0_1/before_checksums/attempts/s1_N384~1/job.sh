# wavequeue: job s1_N384, attempt 1
trap 'exit 143' TERM
set -o pipefail
IFS= read -r _wq < /proc/$$/stat && printf '%s\n' "$_wq" > started
cd -- /home/user/old || { printf '%s\n' 'wavequeue: the cwd is not there: /home/user/old'; exit 66; }
unset _wq
export WAVEQUEUE_JOB_ID=s1_N384
export WAVEQUEUE_RUN_ID=old-20261125-000000
export WAVEQUEUE_ATTEMPT=1
export WANDB_MODE=offline
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export CUDA_VISIBLE_DEVICES=1
until [ -e go ]; do sleep 0.1; done; echo 1 384 > out_1_384; false; true
