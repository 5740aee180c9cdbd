"""Phase 2: trains the compressed network end to end for its labels.

    python -m tfcompress.cli.phase2 [the flags of phase 0] --train_epochs=90

Takes the model of phase 1 and writes the trained one, metrics and checkpoints
into OUT/phase2/METHOD/rateRATE. A run that was killed goes on where it was.
"""

from absl import flags as absl_flags

from tfcompress.cli import flags, models, program
from tfcompress.cli.session import Session
from tfcompress.stages import fine_tune

PHASE_ONE = absl_flags.DEFINE_string(
    "phase_one",
    None,
    "Folder or model of phase 1; OUT/phase1/METHOD/rateRATE by default.",
    short_name="po",
)
BATCH_NORM = absl_flags.DEFINE_enum(
    "phase2_batch_norm",
    "train",
    ("frozen", "train"),
    "train: statistics of the batch; frozen: the moving ones, kept.",
)
PHASE2_EPOCHS = absl_flags.DEFINE_integer(
    "phase2_epochs",
    None,
    "Epochs of phase 2 where they are not to be --train_epochs.",
    lower_bound=1,
)


def run(session):
    """Phase 2; returns its results, at once if they are there already."""
    path = session.phase_path(2)
    start = models.existing(
        PHASE_ONE.value or session.phase_path(1), "phase 1's model"
    )
    recipe = session.recipe(
        "phase2", PHASE2_EPOCHS.value or flags.TRAIN_EPOCHS.value
    )
    settings = {
        "phase": 2,
        "start": models.fingerprint(start),
        "train_epochs": recipe.epochs,
        "batch_norm": BATCH_NORM.value,
        "distillation": flags.DISTILLATION.value,
        "temperature": flags.TEMPERATURE.value,
        **session.data_settings,
    }
    if flags.DISTILLATION.value:
        teacher = models.existing(
            flags.PRETRAINED_MODEL.value, "the pretrained model"
        )
        settings["teacher"] = models.fingerprint(teacher)
    directory = session.open(path, settings)
    if directory.results is not None:
        session.print(f"phase 2 is done: {path}")
        return directory.results
    session.print(f"phase 2: training end to end in {path}")
    student = session.load(start)
    fine_tune(
        student,
        session.trainer(directory.path),
        recipe.epochs,
        optimizer=recipe.optimizer,
        learning_rate=recipe.schedule(session.batch_size),
        weight_decay=recipe.weight_decay,
        decay_batch_norm=recipe.decay_batch_norm,
        teacher=session.load(teacher) if flags.DISTILLATION.value else None,
        alpha=flags.DISTILLATION.value,
        temperature=flags.TEMPERATURE.value,
        batch_norm=BATCH_NORM.value,
    )
    return session.conclude(directory, student)


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main)
