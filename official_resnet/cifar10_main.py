"""Trains or evaluates the official ResNet on CIFAR-10.

    python -m official_resnet.cifar10_main --data_dir=DATA --model_dir=MODEL

Writes model.keras, metrics and checkpoints into MODEL; a run that was killed
goes on where it was. With --method and --rate the network has factors in place
of its kernels from the beginning.
"""

from absl import flags as absl_flags

from official_resnet import main_program
from tfcompress.cli import flags, program

if __name__ == "__main__":
    absl_flags.set_default(flags.DATASET, "cifar10")
    program.run(main_program.main)
