"""Training without labels: the student imitates the reference as a whole.

With p and q the softmax of the outputs of reference and student, and f_i, g_i
what student and reference give at the end of stage i, the loss of an image is

    T^2 KL(p_T || q_T) + weight sum_i ||f_i - g_i||^2 / E ||g_i||^2

(Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network",
arXiv 1503.02531, at the temperature T; Romero et al. 2015, "FitNets", arXiv
1412.6550, for the features). E ||g_i||^2 is the mean over the images that a
device has in the batch. In contrast to `blocks`, all stages are trained at
once.
"""

from keras import ops

from tfcompress.graph import run, stage_layers
from tfcompress.stages import classification
from tfcompress.stages.modes import caller
from tfcompress.stages.task import Task, batch_norm_layers, check_batch_norm


class ImitationTask(Task):
    """A student against a reference, on images alone.

    Args:
        student: Functional or Sequential classifier that is trained.
        reference: Model of the same stages and outputs; never changed.
        stage_outputs: Names of layers, of both models, whose outputs are
            compared.
        temperature: T.
        weight: Of the features.
        batch_norm: "train" or "frozen", see `blocks.BlockTask`.

    Raises:
        ValueError: If an argument is not one of these.
    """

    training_metrics = ("divergence", "features", "agreement")
    evaluation_metrics = training_metrics

    def __init__(
        self,
        student,
        reference,
        stage_outputs,
        temperature=2.0,
        weight=1.0,
        batch_norm="frozen",
    ):
        check_batch_norm(batch_norm)
        classification.check_classifier("student", student)
        classification.check_classifier("reference", reference)
        stage_layers(student, stage_outputs)
        stage_layers(reference, stage_outputs)
        super().__init__(
            student, student.trainable_variables, companions=(reference,)
        )
        self._names = frozenset(stage_outputs)
        self._reference = reference
        self._temperature, self._weight = temperature, weight
        self._training = frozenset()
        if batch_norm == "train":
            self._training = {id(layer) for layer in batch_norm_layers(student)}

    def forward(self, images, training):
        layers = self._training if training else frozenset()
        ours, features = self._run(self.model, images, layers)
        theirs, targets = self._run(self._reference, images, frozenset())
        return {
            "logits": ours,
            "targets": ops.stop_gradient(theirs),
            "features": features,
            "wanted": [ops.stop_gradient(x) for x in targets],
        }

    def _run(self, model, images, training):
        found, call = [], caller(training)

        def visit(operation, *args, **kwargs):
            outputs = call(operation, *args, **kwargs)
            if operation.name in self._names:
                found.append(ops.cast(outputs, "float32"))
            return outputs

        return ops.cast(run(model, images, visit), "float32"), found

    def losses(self, labels, outputs):
        return self._divergence(outputs) + self._weight * self._features(
            outputs
        )

    def _divergence(self, outputs):
        t = self._temperature
        ours, theirs = outputs["logits"] / t, outputs["targets"] / t
        p = ops.softmax(theirs)
        difference = ops.log_softmax(theirs) - ops.log_softmax(ours)
        return t * t * ops.sum(p * difference, axis=-1)

    def _features(self, outputs):
        total = 0.0
        for ours, wanted in zip(
            outputs["features"], outputs["wanted"], strict=True
        ):
            axes = tuple(range(1, len(wanted.shape)))
            error = ops.mean(ops.square(ours - wanted), axis=axes)
            total = total + error / (ops.mean(ops.square(wanted)) + 1e-12)
        return total

    def metrics(self, labels, outputs):
        same = ops.equal(
            ops.argmax(outputs["logits"], axis=-1),
            ops.argmax(outputs["targets"], axis=-1),
        )
        return {
            "divergence": self._divergence(outputs),
            "features": self._features(outputs),
            "agreement": ops.cast(same, "float32"),
        }


def imitate(
    student,
    reference,
    stage_outputs,
    trainer,
    epochs,
    *,
    optimizer,
    learning_rate,
    **options,
):
    """Trains a student on images alone, in place.

    Args:
        student, reference, stage_outputs: See `ImitationTask`.
        trainer: See `tfcompress.stages.task`; called with the name "imitate".
        epochs: Number of epochs.
        optimizer: Function from a learning rate to a Keras optimizer.
        learning_rate: Number, or function of the epoch.
        **options: Of `ImitationTask`.

    Returns:
        `student`.
    """
    task = ImitationTask(student, reference, stage_outputs, **options)
    trainer(task, "imitate", optimizer, learning_rate, epochs)
    return student
