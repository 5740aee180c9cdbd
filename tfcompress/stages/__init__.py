"""Stages of compression: functions model -> model that a schedule strings up.

What is trained is a `Task`; how it is trained is a trainer, a function that a
stage is given: `FitTrainer` for one device on any backend, or
`tfcompress.training.Trainer` for tf.distribute, checkpoints and resuming.
"""

from tfcompress.stages.batch_norm import reestimate_batch_norm
from tfcompress.stages.blocks import BlockTask, train_blocks
from tfcompress.stages.fine_tune import ClassificationTask, fine_tune
from tfcompress.stages.fit import FitTrainer
from tfcompress.stages.imitation import ImitationTask, imitate
from tfcompress.stages.rollback import Rollback
from tfcompress.stages.task import Task

__all__ = [
    "BlockTask",
    "ClassificationTask",
    "FitTrainer",
    "ImitationTask",
    "Rollback",
    "Task",
    "fine_tune",
    "imitate",
    "reestimate_batch_norm",
    "train_blocks",
]
