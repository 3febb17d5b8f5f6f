# wavequeue: job s2_N512, attempt 1
trap 'exit 143' TERM
trap '' HUP
set -o pipefail
IFS= read -r _wq < /proc/$$/stat && printf '%s\n' "$_wq" > started
umask 0022
. /home/user/home/.wavequeue/environments/old-20261128-000000@a7feb37f0937.sh
cd -- /home/user/old || { printf '%s\n' 'wavequeue: the cwd is not there: /home/user/old'; exit 66; }
unset _wq
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"
export WAVEQUEUE_JOB_ID=s2_N512
export WAVEQUEUE_RUN_ID=old-20261128-000000
export WAVEQUEUE_ATTEMPT=1
export WANDB_MODE=offline
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export CUDA_VISIBLE_DEVICES=1
[ -n "${MASTER_ADDR+set}" ] || export MASTER_ADDR=127.0.0.1
[ -n "${MASTER_PORT+set}" ] || export MASTER_PORT=20425
[ -n "${PET_MASTER_ADDR+set}" ] || export PET_MASTER_ADDR=127.0.0.1
[ -n "${PET_MASTER_PORT+set}" ] || export PET_MASTER_PORT=20425
[ -n "${WANDB_RUN_GROUP+set}" ] || export WANDB_RUN_GROUP=old-20261128-000000
[ -n "${WANDB_NAME+set}" ] || export WANDB_NAME=s2_N512
if [ -z "${WANDB_RUN_ID+set}" ]; then export WANDB_RUN_ID=old-20261128-000000-s2_N512; [ -n "${WANDB_RESUME+set}" ] || export WANDB_RESUME=allow; fi
set -e
until [ -e go ]; do sleep 0.1; done; echo 2 512 > out_2_512; false || true
