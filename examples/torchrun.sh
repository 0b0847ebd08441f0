#!/bin/sh
# Trains one run by several processes of this machine. All arguments are those of `priory fit`:
#
#     PROCESSES=2 sh examples/torchrun.sh digits --out runs/digits
#
# After an interruption give --resume --out runs/digits. On several machines, each runs the same line with
# --nnodes 2 --node-rank 0 (1, ...) --master-addr HOST --master-port 29500 after `torchrun`.
processes=${PROCESSES:-2}
exec torchrun --nproc-per-node "$processes" -m priory fit "$@" --devices "$processes" --strategy ddp
