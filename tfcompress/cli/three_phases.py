"""The main job: from a trained model to a compressed and fine-tuned one.

    python -m tfcompress.cli.three_phases --dataset=cifar10 --data_dir=DATA \
        --pretrained_model=MODEL --method=cp --rate=0.1 --output_dir=OUT

Runs phases 0, 1 and 2 and ends with a table. What is done is not done again;
what was interrupted goes on where it was.
"""

from absl import flags as absl_flags

from official_resnet import baseline
from tfcompress.cli import (
    flags,
    models,
    phase0,
    phase1,
    phase2,
    program,
    summary,
)
from tfcompress.cli.session import Session

TRAIN_PRETRAINED = absl_flags.DEFINE_bool(
    "train_pretrained",
    False,
    "Train the pretrained model first if --pretrained_model does not exist.",
)
PRETRAIN_EPOCHS = absl_flags.DEFINE_integer(
    "pretrain_epochs",
    None,
    "Epochs of the training from scratch; the recipe's by default.",
    lower_bound=1,
)
LAST_PHASE = absl_flags.DEFINE_integer(
    "last_phase", 2, "Stop after this phase.", lower_bound=0, upper_bound=2
)
PHASES = (phase0, phase1, phase2)


def run(session):
    """All phases; prints a table."""
    session.phase_path(0)
    if TRAIN_PRETRAINED.value:
        baseline.ensure(
            session, flags.PRETRAINED_MODEL.value, PRETRAIN_EPOCHS.value
        )
    models.existing(flags.PRETRAINED_MODEL.value, "the pretrained model")
    for phase in PHASES[: LAST_PHASE.value + 1]:
        phase.run(session)
    summary.run(session, LAST_PHASE.value)


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main)
