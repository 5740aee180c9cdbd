"""Trains a network of the zoo on ImageNet, or fine-tunes a compressed one.

    python -m tfcompress.cli.imagenet -net imagenet_resnet18 -mode fine_tune \
        -weights compressed_weights/ht2_imagenet_resnet18_0_9.keras \
        -train DATA/train -val DATA/val

The images are in folders, one for each class, or, with --data_dir, in the
official TFRecords. Writes weights/NET.keras, or fine_tuned/FILE.keras with the
name of the file of -weights, and beside it a folder with checkpoints and
metrics; below --output_dir, the current folder by default. -lr, -epochs, -wd,
-b and -momentum change the network's recipe; -amp is mixed precision. A run
that was killed goes on where it was.
"""

from absl import flags as absl_flags

from tfcompress.cli import flags, program, zoo_flags, zoo_images, zoo_training

NAMES = zoo_flags.NAMES


def main():
    zoo_training.main(zoo_images.photographs, "imagenet")


if __name__ == "__main__":
    absl_flags.set_default(flags.OUTPUT_DIR, ".")
    program.run(main, NAMES)
