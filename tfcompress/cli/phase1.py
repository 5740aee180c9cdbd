"""Phase 1: trains stage after stage to give the original's activations.

    python -m tfcompress.cli.phase1 [the flags of phase 0] --train_epochs=50

Takes the model of phase 0 and writes the trained one, metrics and checkpoints
into OUT/phase1/METHOD/rateRATE. A run that was killed goes on where it was.
"""

from absl import flags as absl_flags

from tfcompress.cli import compression, flags, models, program
from tfcompress.cli.session import Session
from tfcompress.graph import find_stages
from tfcompress.stages import train_blocks

BATCH_NORM = absl_flags.DEFINE_enum(
    "phase1_batch_norm",
    "frozen",
    ("frozen", "train"),
    "frozen: moving statistics are used and kept; train: those of the batch.",
)
START_STAGE = absl_flags.DEFINE_integer(
    "start_stage",
    1,
    "First stage to train; the earlier ones are taken as they are.",
    lower_bound=1,
)
START_MODEL = absl_flags.DEFINE_string(
    "start_model",
    None,
    "Model to begin with in place of phase 0's, such as one whose first "
    "stages are trained.",
)
STAGE_OUTPUT = absl_flags.DEFINE_multi_string(
    "stage_output",
    None,
    "Layer that a stage ends with, once per stage in order; an official "
    "ResNet's own by default, else the last cut at each image size.",
)
PHASE_ZERO = absl_flags.DEFINE_string(
    "phase_zero",
    None,
    "Folder or model of phase 0; OUT/phase0/METHOD/rateRATE by default.",
    short_name="pz",
)


def run(session):
    """Phase 1; returns its results, at once if they are there already."""
    path = session.phase_path(1)
    original = models.existing(
        flags.PRETRAINED_MODEL.value, "the pretrained model"
    )
    start = models.existing(
        START_MODEL.value or PHASE_ZERO.value or session.phase_path(0),
        "phase 0's model",
    )
    recipe = session.recipe("phase1", flags.TRAIN_EPOCHS.value)
    settings = {
        "phase": 1,
        "start": models.fingerprint(start),
        "pretrained_model": models.fingerprint(original),
        "train_epochs": recipe.epochs,
        "batch_norm": BATCH_NORM.value,
        "start_stage": START_STAGE.value,
        "stage_output": STAGE_OUTPUT.value,
        **session.data_settings,
    }
    directory = session.open(path, settings)
    if directory.results is not None:
        session.print(f"phase 1 is done: {path}")
        return directory.results
    session.print(f"phase 1: training stage by stage in {path}")
    reference = session.load(original)
    student = session.load(start)
    ends = (
        STAGE_OUTPUT.value
        or compression.official_stages(student)
        or find_stages(student)
    )
    _check_same_network(start, student, original, reference, ends)
    train_blocks(
        student,
        reference,
        ends,
        session.trainer(directory.path),
        recipe.epochs,
        optimizer=recipe.optimizer,
        learning_rate=recipe.schedule(session.batch_size),
        batch_norm=BATCH_NORM.value,
        start_stage=START_STAGE.value,
    )
    return session.conclude(directory, student)


def _check_same_network(start, student, original, reference, ends):
    for path, model in ((start, student), (original, reference)):
        names = {layer.name for layer in model.layers}
        missing = [name for name in ends if name not in names]
        if missing:
            raise ValueError(
                f"the model {path} has no layer {missing[0]!r}, which a stage "
                f"is to end with; {start} must be compressed from {original}, "
                "and `--stage_output` name layers of both"
            )


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main)
