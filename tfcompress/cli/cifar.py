"""Trains a network of the zoo on CIFAR-10, or fine-tunes a compressed one.

    python -m tfcompress.cli.cifar -net cifar10_densenet40 -mode train \
        --data_dir=DATA
    python -m tfcompress.cli.cifar -net cifar10_densenet40 -mode fine_tune \
        -weights compressed_weights/ht2_cifar10_densenet40_0_9.keras \
        --data_dir=DATA

Writes weights/NET.keras, or fine_tuned/FILE.keras with the name of the file of
-weights, and beside it a folder with checkpoints and metrics; below
--output_dir, the current folder by default. -lr, -epochs, -wd, -b and -momentum
change the network's recipe. A run that was killed goes on where it was.
"""

from absl import flags as absl_flags

from tfcompress.cli import flags, program, zoo_flags, zoo_images, zoo_training

DATASETS = ("cifar10", "mnist")
NAMES = zoo_flags.NAMES


def main():
    zoo_training.main(zoo_images.small, *DATASETS)


if __name__ == "__main__":
    absl_flags.set_default(flags.OUTPUT_DIR, ".")
    program.run(main, NAMES)
