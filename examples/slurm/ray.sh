#!/usr/bin/env bash
# A Ray cluster for as long as the allocation, and a study on it: sbatch examples/slurm/ray.sh STUDY
# Submitted from the checkout, whose .venv has the extra [cluster]; nodes see it at the same path.
# Each node keeps prepared data and weights in its own temporary folder.
#SBATCH --job-name=bench-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --exclusive
#SBATCH --time=08:00:00
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

# Who has the token may run code on the nodes: it is this job's alone.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
ip=$(srun --nodes=1 --ntasks=1 --nodelist="${hosts[0]}" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))
memory=$((SLURM_MEM_PER_NODE * 1024 * 1024 * 9 / 10))

start() { # HOST OPTION…: a node of the cluster, until the job ends
  local host=$1
  shift
  srun --nodes=1 --ntasks=1 --nodelist="$host" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    .venv/bin/ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" --memory="$memory" \
    --object-store-memory=256000000 "$@" &
}

trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
start "${hosts[0]}" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false
until .venv/bin/ray status --address="$ip:$port" >/dev/null 2>&1; do
  kill -0 $! # the head has died
  sleep 2
done
for host in "${hosts[@]:1}"; do
  start "$host" --address="$ip:$port"
done

until [ "$(.venv/bin/ray status --address="$ip:$port" | grep -c ' node_')" -ge "$SLURM_NNODES" ]; do
  sleep 2
done
.venv/bin/python -m bench run "$@" --engine ray --address "$ip:$port" \
  --node-cache-dir "/tmp/bench-$SLURM_JOB_ID"
