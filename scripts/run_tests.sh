#!/usr/bin/env bash
# Installs what the tests need and runs them: all of them on TensorFlow, those
# of the core once more on JAX in an environment without TensorFlow.
# Arguments go to pytest, for example: -k laws, or -m "slow or not slow".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
ensure_environment .venv "$(tensorflow_extra),test"
ensure_environment .venv-jax "jax,test"
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
# One process per core, up to eight, each with the tests of whole files; more
# threads in each would only wait for those of the others.
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
parallel=(--numprocesses=auto --maxprocesses=8 --dist=loadfile)
if (($# == 0)); then
  set -- -m "not slow"
fi
echo "== TensorFlow"
.venv/bin/python -m pytest "${parallel[@]}" "$@"
echo "== JAX, without TensorFlow"
KERAS_BACKEND=jax .venv-jax/bin/python -m pytest "${parallel[@]}" "$@"
