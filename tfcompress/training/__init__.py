"""The one training loop, for one device or many: tf.distribute programs."""

from tfcompress.training.steps import evaluate
from tfcompress.training.trainer import Trainer

__all__ = ["Trainer", "evaluate"]
