# Sourced: the argument order that the scripts of the data sets share.

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# three_phases DATASET METHOD RATE WORK_DIR DATA_DIR PRETRAINED_MODEL
#   OUTPUT_DIR BATCH_SIZE EPOCHS [FLAGS...]
three_phases() {
  local dataset=$1
  shift
  if (($# < 8)) || [[ $1 == -* ]]; then
    cat >&2 <<USAGE
usage: bash scripts/${dataset}_script.sh METHOD RATE WORK_DIR DATA_DIR \\
         PRETRAINED_MODEL OUTPUT_DIR BATCH_SIZE EPOCHS [FLAGS...]

Compresses a trained ResNet in three phases: decompose; train stage by stage
against the original; train end to end. Results: OUTPUT_DIR/phaseN/METHOD/rateRATE.
PRETRAINED_MODEL is a .keras file, a folder with model.keras, or an official
TF1 checkpoint; with --train_pretrained it is trained first if it is missing.
Paths are relative to WORK_DIR. EPOCHS are those of each stage of phase 1 and of
phase 2; 0 for the recipe's. All flags:
  python -m tfcompress.cli.three_phases --help
USAGE
    return 2
  fi
  cd "$3"
  run_python -m tfcompress.cli.three_phases --dataset="$dataset" \
    --method="$1" --rate="$2" --data_dir="$4" --pretrained_model="$5" \
    --output_dir="$6" --batch_size="$7" --train_epochs="$8" "${@:9}"
}
