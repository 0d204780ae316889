#!/usr/bin/env bash
# Every n-th trial of a study in a job of its own: sbatch examples/slurm/array.sh STUDY [OPTION…]
# Submitted from the checkout. Jobs share its results folder, or else are joined afterwards by
# `bench merge-results`; `sbatch` takes options of your site (partition, account) before the script.
#SBATCH --job-name=bench
#SBATCH --array=1-4
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=24G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

# exec: the signal before the end of the time reaches bench, and what is recorded by then stays.
exec .venv/bin/python -m bench run "$@" \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
  --threads "$SLURM_CPUS_PER_TASK" \
  --cache-dir "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/bench-$SLURM_JOB_ID"
