"""Phase 2: the whole network is trained for its labels.

The loss is cross-entropy plus L2, (weight_decay / 2) * sum of squares, as in
the official ResNet recipes. With a teacher it is the distillation loss of
Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015):

    (1 - alpha) * CE(labels, student)
        + alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
"""

import keras
from keras import ops

from tfcompress.stages import classification
from tfcompress.stages.task import Task, batch_norm_layers, check_batch_norm


class ClassificationTask(Task):
    """A classifier trained end to end.

    The regularizers that the model's own layers have count too.

    Args:
        model: Functional or Sequential model that gives logits.
        weight_decay: Factor of half the sum of squares of the trainable
            variables.
        decay_batch_norm: Whether that sum includes gammas and betas of batch
            normalization: so does the official recipe for CIFAR-10, and that
            for ImageNet does not.
        teacher: Model of the same logits to distil from, or `None`.
        temperature: T above; larger ones show more of the teacher's opinion on
            wrong classes.
        alpha: Share of the distillation in the loss, in [0, 1].
        batch_norm: "train", or "frozen" to run the model in inference mode,
            with its moving statistics.

    Raises:
        ValueError: If an argument is not one of these.
    """

    training_metrics = ("cross_entropy", "accuracy")
    evaluation_metrics = classification.METRICS

    def __init__(
        self,
        model,
        weight_decay=0.0,
        decay_batch_norm=True,
        teacher=None,
        temperature=4.0,
        alpha=0.5,
        batch_norm="train",
    ):
        check_batch_norm(batch_norm)
        classification.check_classifier("model", model)
        if not weight_decay >= 0:
            raise ValueError(
                f"`weight_decay` must not be negative. Received: {weight_decay}"
            )
        if teacher is not None:
            _check_distillation(model, teacher, temperature, alpha)
        super().__init__(
            model,
            model.trainable_variables,
            companions=() if teacher is None else (teacher,),
        )
        self._weight_decay = weight_decay
        self._decayed = _decayed_variables(model, decay_batch_norm)
        self._teacher = teacher
        self._temperature = temperature
        self._alpha = alpha
        self._trains_statistics = batch_norm == "train"

    def forward(self, images, training):
        outputs = {
            "logits": self.model(
                images, training=training and self._trains_statistics
            )
        }
        if training and self._teacher is not None:
            outputs["targets"] = self._teacher(images, training=False)
        return outputs

    def losses(self, labels, outputs):
        losses = classification.cross_entropy(labels, outputs["logits"])
        if "targets" not in outputs:
            return losses
        distillation = _divergence(
            ops.stop_gradient(outputs["targets"]),
            outputs["logits"],
            self._temperature,
        )
        return (1 - self._alpha) * losses + self._alpha * distillation

    def metrics(self, labels, outputs):
        return classification.metrics(labels, outputs["logits"])

    def regularization(self):
        total = sum(self.model.losses)
        if self._weight_decay and self._decayed:
            squares = [
                ops.sum(ops.square(ops.cast(v, "float32")))
                for v in self._decayed
            ]
            total = total + 0.5 * self._weight_decay * sum(squares)
        return total


def fine_tune(
    model,
    trainer,
    epochs,
    *,
    optimizer=keras.optimizers.SGD,
    learning_rate,
    name="fine_tune",
    **task_arguments,
):
    """Phase 2: trains a classifier end to end.

    Args:
        model: See `ClassificationTask`, as for all `task_arguments`.
        trainer: See `tfcompress.stages.task`.
        epochs: Number of epochs.
        optimizer: Function from a learning rate to a Keras optimizer.
        learning_rate: Number, or function of the epoch.
        name: Name of this training.
        **task_arguments: `weight_decay`, `teacher` and the other arguments of
            `ClassificationTask`.

    Returns:
        `model`, trained in place.

    Raises:
        ValueError: If an argument is not one of these.
    """
    task = ClassificationTask(model, **task_arguments)
    trainer(task, name, optimizer, learning_rate, epochs)
    return model


def _divergence(targets, logits, temperature):
    """T^2 * KL(softmax(targets / T) || softmax(logits / T)), (batch,)."""
    targets, logits = (
        ops.log_softmax(ops.cast(x, "float32") / temperature)
        for x in (targets, logits)
    )
    terms = ops.exp(targets) * (targets - logits)
    return temperature**2 * ops.sum(terms, axis=-1)


def _decayed_variables(model, decay_batch_norm):
    if decay_batch_norm:
        return list(model.trainable_variables)
    excluded = {
        id(v)
        for layer in batch_norm_layers(model)
        for v in layer.trainable_variables
    }
    return [v for v in model.trainable_variables if id(v) not in excluded]


def _check_distillation(model, teacher, temperature, alpha):
    classification.check_classifier("teacher", teacher)
    ours, theirs = model.outputs[0].shape, teacher.outputs[0].shape
    if ours != theirs:
        raise ValueError(
            "`teacher` must give as many logits as the model. "
            f"Received: shapes {theirs} and {ours}"
        )
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be positive. Received: {temperature}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must lie in [0, 1]. Received: {alpha}")
