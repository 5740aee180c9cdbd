#!/usr/bin/env bash
# From a fresh clone to a compressed network: installs, trains a small ResNet
# on scikit-learn's digits, compresses it to a tenth, and shows the result.
# Everything lies in quickstart/; what is done is not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
ensure_environment .venv "$(tensorflow_extra)"
export PYTHON=$PWD/.venv/bin/python
run_python -m tfcompress.datasets.digits quickstart/data
bash scripts/cifar10_script.sh cp 0.1 . quickstart/data quickstart/pretrained \
  quickstart/output 64 0 --dataset=digits --train_pretrained "$@"
