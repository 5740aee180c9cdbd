"""What of a training survives a kill."""

import json
import warnings

import tensorflow as tf

from tfcompress.names import first_line


class Progress(tf.train.experimental.PythonState):
    """How far a training is.

    Attributes:
        step: Steps that are done, over all epochs.
        sums: Sums of the losses and metrics over the present epoch, with the
            number of examples last; `None` at its beginning.
        history: One dictionary per finished epoch.
    """

    def __init__(self):
        self.step = 0
        self.sums = None
        self.history = []

    def add(self, steps, sums):
        """Counts steps and the sums they gave."""
        self.step += steps
        if self.sums is None:
            self.sums = [0.0] * len(sums)
        self.sums = [a + float(b) for a, b in zip(self.sums, sums, strict=True)]

    def means(self, names):
        """The means over the present epoch until now."""
        *sums, examples = self.sums
        return {n: s / examples for n, s in zip(names, sums, strict=True)}

    def finish_epoch(self, row):
        """Records an epoch and begins the next."""
        self.history = [*self.history, row]
        self.sums = None

    def serialize(self):
        return json.dumps([self.step, self.sums, self.history])

    def deserialize(self, string_value):
        self.step, self.sums, self.history = json.loads(string_value)


class Checkpoints:
    """Weights, optimizer and progress of a training in one folder.

    A checkpoint counts only once it is complete, and the one before it is kept
    until then, so that a kill at any moment leaves one to go on from.

    Args:
        directory: The folder.
        writer: Whether this process writes; all workers read.
        model: The Keras model.
        optimizer: Its built optimizer.
        progress: The `Progress`.
        kept: Further TensorFlow variables.
    """

    def __init__(self, directory, writer, model, optimizer, progress, kept=()):
        self._directory = directory
        self._writer = writer
        self._checkpoint = tf.train.Checkpoint(
            model=_values(model),
            optimizer=_values(optimizer),
            progress=progress,
            # Where there are none, checkpoints stay as they always were.
            **({"kept": list(kept)} if kept else {}),
        )
        self._progress = progress
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(directory), max_to_keep=2
        )

    def save(self):
        """Writes a checkpoint of the present state."""
        if self._writer:
            self._manager.save(checkpoint_number=self._progress.step)

    def restore(self):
        """Takes the state from the newest checkpoint, if there is one.

        Raises:
            ValueError: If it is one of another network, or none can be read.
        """
        _restore(self._checkpoint, self._directory)


def restore_model(model, directory):
    """Gives a model the weights of the newest checkpoint in a folder.

    Args:
        model: The Keras model.
        directory: The folder of a `Checkpoints`.

    Returns:
        Whether there was a checkpoint.

    Raises:
        ValueError: If it is one of another network, or none can be read.
    """
    return _restore(tf.train.Checkpoint(model=_values(model)), directory)


def _values(owner):
    # By position, not by attribute path: a model that was saved and loaded has
    # the same variables on other paths.
    return [variable.value for variable in owner.variables]


def _restore(checkpoint, directory):
    """Whether there is a checkpoint; the newest one that can be read counts."""
    state = tf.train.get_checkpoint_state(str(directory))
    if state is None:
        return False
    for path in reversed(state.all_model_checkpoint_paths):
        try:
            status = checkpoint.restore(path)
            status.assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError) as error:
            reason = first_line(error)
            raise ValueError(
                f"{path} is the checkpoint of another network or optimizer; "
                "choose another output folder or the settings it was made with "
                f"({reason})"
            ) from error
        except (tf.errors.OpError, IndexError) as error:
            warnings.warn(
                f"The checkpoint {path} cannot be read ({first_line(error)}); "
                "looking for an older one",
                stacklevel=2,
            )
        else:
            return True
    raise ValueError(
        f"No checkpoint in {directory} can be read, though there were some; "
        "bring their files back, or choose another output folder"
    )
