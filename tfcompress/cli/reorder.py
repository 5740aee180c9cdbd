"""Compresses networks by tensor reordering, and fine-tunes and tests them.

    python -m tfcompress.cli.reorder compress -a resnet50 \
        -weights resnet50.pth -g 4 -r 2
    python -m tfcompress.cli.reorder train DATA -a resnet50 -g 4 -r 2 \
        --lr 0.00025 -b 64
    python -m tfcompress.cli.reorder test DATA \
        checkpoint-resnet50-uniform-4-2.0.keras

`compress` lays the weights of each layer in g rows, puts the columns into an
order in which neighbours are alike, and keeps 1 / r of the cosine coefficients
of each row (Ulicny et al., 2020). With --progressive large layers keep a
smaller share. -a is a network of the zoo or a .keras file. It writes
compressed-ARCH-MODE-G-R.keras; `train` fine-tunes that and writes
checkpoint-ARCH-MODE-G-R.keras. Beside each is a folder with tables, settings
and checkpoints, from which a run that was killed goes on.

DATA has the folders train and val with a folder of images for each class, or
ImageNet's TFRecords; for a network of CIFAR-10 it is that. -lr, -epochs, -wd,
-b and -momentum change the recipe that the authors give.
"""

from absl import flags as absl_flags

from tfcompress.cli import (
    program,
    reorder_compress,
    reorder_evaluation,
    reorder_train,
    zoo_flags,
)

COMMANDS = {
    "compress": reorder_compress.run,
    "test": reorder_evaluation.run,
    "train": reorder_train.run,
}
COMMAND = absl_flags.DEFINE_enum(
    "command", None, tuple(COMMANDS), "What to do; the first argument."
)
POSITIONAL = ("command", "data_dir", "checkpoint")
NAMES = {
    **zoo_flags.NAMES,
    "a": "network",
    "arch": "network",
    "g": "rows",
    "r": "divisor",
    "j": "workers",
    "e": "evaluate",
    "p": "print_freq",
    "batch-size": "batch_size",
    "learning-rate": "learning_rate",
    "weight-decay": "weight_decay",
    "print-freq": "print_freq",
}


def main():
    if COMMAND.value is None:
        raise ValueError(
            f"a command is needed as the first argument: {', '.join(COMMANDS)}"
        )
    COMMANDS[COMMAND.value]()


if __name__ == "__main__":
    program.run(main, NAMES, POSITIONAL)
