#!/usr/bin/env bash
# Compresses a network in steps, with fine-tuning between them; without
# arguments it prints how to call it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if (($# < 10)) || [[ $1 == -* ]]; then
  cat >&2 <<USAGE
usage: bash scripts/musco_script.sh DATASET SELECTION VALUE WORK_DIR DATA_DIR \\
         PRETRAINED_MODEL OUTPUT_DIR BATCH_SIZE EPOCHS PASSES [FLAGS...]

Compresses a trained network as MUSCO does: compress some layers, fine-tune, and
again, until each layer was compressed PASSES times. Results:
OUTPUT_DIR/musco/METHOD/SELECTIONVALUE.
DATASET is cifar10, digits or imagenet. SELECTION and its VALUE say how ranks
are found: vbmf and the weakening (0.8), reduction and the divisor (2), energy
or rate and the share to keep, break_even and -, manual and a YAML file.
PRETRAINED_MODEL is a .keras file, a folder with model.keras, or an official
TF1 checkpoint. Paths are relative to WORK_DIR. EPOCHS are those of each
fine-tuning; 0 for the recipe's. All flags:
  python -m tfcompress.cli.musco --help
USAGE
  exit 2
fi
cd "$4"
run_python -m tfcompress.cli.musco --dataset="$1" --rank_selection="$2" \
  --selection_value="$3" --data_dir="$5" --pretrained_model="$6" \
  --output_dir="$7" --batch_size="$8" --train_epochs="$9" --passes="${10}" \
  "${@:11}"
