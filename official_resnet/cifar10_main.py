"""Trains or evaluates the official ResNet on CIFAR-10.

    python -m official_resnet.cifar10_main --data_dir=DATA --model_dir=MODEL

Writes model.keras, metrics and checkpoints into MODEL; a run that was killed
goes on where it was.
"""

from absl import flags as absl_flags

from official_resnet import baseline
from tfcompress.cli import flags, program
from tfcompress.cli.session import Session

MODEL_DIR = absl_flags.DEFINE_string(
    "model_dir", None, "Folder of the model and its training.", short_name="md"
)
EVAL_ONLY = absl_flags.DEFINE_bool(
    "eval_only", False, "Evaluate the model in --model_dir, train nothing."
)
absl_flags.set_default(flags.DATASET, "cifar10")


def main():
    baseline.run(Session(), MODEL_DIR.value, EVAL_ONLY.value)


if __name__ == "__main__":
    program.run(main)
