"""What is trained, and towards what: a model, its variables and a loss.

A `Task` says nothing about devices, batches or files, so the same task is
trained by `stages.FitTrainer` (`keras.Model.fit`, on any backend) and by
`tfcompress.training.Trainer` (tf.distribute).

A trainer is any function with the signature

    trainer(task, name, optimizer, learning_rate, epochs) -> history

* name: folder name of this training, such as "stage1";
* optimizer: function from a learning rate to a Keras optimizer, for example
  the class `keras.optimizers.Adam`;
* learning_rate: a number, or a function of the epoch (see `schedules`);
* history: a list with one dictionary of numbers per epoch.

It trains `task.trainable_variables` in place and changes nothing else but the
moving statistics that the task's forward pass updates.
"""

import abc

import keras


class Task(abc.ABC):
    """A model with the loss it is trained for.

    Attributes:
        model: The `keras.Model` that is trained, as it will be saved.
        trainable_variables: The variables that the optimizer may change.
        companions: Further models that the loss needs; they stay as they are.
        training_metrics: Names that `metrics` gives of a training pass.
        evaluation_metrics: Names that it gives of an inference pass.
    """

    training_metrics: tuple
    evaluation_metrics: tuple

    def __init__(self, model, trainable_variables, companions=()):
        self.model = model
        self.trainable_variables = list(trainable_variables)
        self.companions = tuple(companions)

    @abc.abstractmethod
    def forward(self, images, training):
        """Runs the networks.

        Args:
            images: Tensor (batch, height, width, channels).
            training: Whether this is a training step.

        Returns:
            Dictionary of tensors for `losses` and `metrics`.
        """

    @abc.abstractmethod
    def losses(self, labels, outputs):
        """The loss of each example, float32 (batch,).

        Args:
            labels: Integers (batch,).
            outputs: What `forward` returned.
        """

    @abc.abstractmethod
    def metrics(self, labels, outputs):
        """Numbers of each example whose means are reported.

        Args:
            labels: Integers (batch,).
            outputs: What `forward` returned.

        Returns:
            Dictionary name -> float32 (batch,).
        """

    def regularization(self):
        """A scalar that is added to the mean loss of the batch."""
        return 0.0


def build_optimizer(task, optimizer, learning_rate):
    """A built optimizer for the variables of a task.

    Args:
        task: The `Task`.
        optimizer: Function from a learning rate to a Keras optimizer.
        learning_rate: Number or Keras learning rate schedule.

    Returns:
        The optimizer; with dynamic loss scaling around it if layers of the
        model compute in float16.
    """
    optimizer = optimizer(learning_rate)
    policies = {
        layer.dtype_policy.name for layer in task.model._flatten_layers()
    }
    if "mixed_float16" in policies:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(task.trainable_variables)
    return optimizer


def batch_norm_layers(model):
    """The batch normalization layers of a model, nested ones too."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def check_batch_norm(batch_norm):
    """Raises a ValueError unless `batch_norm` is "frozen" or "train"."""
    if batch_norm not in ("frozen", "train"):
        raise ValueError(
            '`batch_norm` must be "frozen" or "train". '
            f"Received: {batch_norm!r}"
        )
