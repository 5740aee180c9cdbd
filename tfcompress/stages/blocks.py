"""Phase 1: the student learns the reference's features, stage by stage.

Sequential training of Su, Li, Bhattacharjee, Huang, "Tensorial Neural
Networks: Generalization of Neural Networks and Application to Model
Compression" (2018). With f_i the first i stages of the student and g_i those
of the reference, stage i minimizes the mean over all elements of

    (f_i(x) - g_i(x))^2

over the variables of the student's stage i alone; its input is what the
student's own, already trained, stages before it give.
"""

import keras
from keras import ops

from tfcompress.graph import input_specs, run, stage_layers
from tfcompress.stages import classification
from tfcompress.stages.modes import caller
from tfcompress.stages.task import Task, check_batch_norm


class BlockTask(Task):
    """One stage of a student against the same stage of a reference.

    A layer belongs to the first stage whose output depends on it; what lies
    before the first cut, the stem, thus belongs to stage 1.

    Args:
        student: Functional or Sequential model that is trained.
        reference: Model of the same stages; never changed.
        stage_outputs: Names of the layers, of both models, that stages 1, 2,
            ... end with.
        stage: Number of the stage to train, from 1.
        batch_norm: "frozen" runs the stage in inference mode: its gammas and
            betas are trained, moving statistics are used and kept. "train"
            uses and tracks the statistics of the batch.

    Raises:
        ValueError: If an argument is not one of these, or the models' outputs
            of the stage differ in shape.
    """

    training_metrics = ("mse",)
    evaluation_metrics = ("mse", *classification.METRICS)

    def __init__(
        self, student, reference, stage_outputs, stage, batch_norm="frozen"
    ):
        check_batch_norm(batch_norm)
        classification.check_classifier("student", student)
        classification.check_network("reference", reference)
        check_stage("stage", stage, stage_outputs)
        stages = stage_layers(student, stage_outputs)
        stage_layers(reference, stage_outputs)
        super().__init__(
            student, _variables(stages[stage - 1]), companions=(reference,)
        )
        self._name = stage_outputs[stage - 1]
        self._reference = reference
        self._training = frozenset()
        if batch_norm == "train":
            self._training = {id(layer) for _, layer in stages[stage - 1]}
        if not self.trainable_variables:
            raise ValueError(
                f"stage {stage} of {student.name!r}, which ends with "
                f"{self._name!r}, has no trainable variables"
            )
        _check_shapes(student, reference, self._name)

    def forward(self, images, training):
        layers = self._training if training else frozenset()
        outputs = _run(self.model, images, self._name, caller(layers))
        reference = _run(self._reference, images, self._name, caller())
        outputs["targets"] = ops.stop_gradient(reference["features"])
        if training:
            # What nothing needs is left out of a compiled step: the networks
            # are computed no further than the stage.
            del outputs["logits"]
        return outputs

    def losses(self, labels, outputs):
        features = ops.cast(outputs["features"], "float32")
        difference = features - ops.cast(outputs["targets"], "float32")
        axes = tuple(range(1, len(difference.shape)))
        return ops.mean(ops.square(difference), axis=axes)

    def metrics(self, labels, outputs):
        metrics = {"mse": self.losses(labels, outputs)}
        if "logits" in outputs:
            metrics |= classification.metrics(labels, outputs["logits"])
        return metrics


def train_blocks(
    student,
    reference,
    stage_outputs,
    trainer,
    epochs,
    *,
    optimizer=keras.optimizers.Adam,
    learning_rate=1e-3,
    batch_norm="frozen",
    start_stage=1,
):
    """Phase 1: trains the stages of a student one after the other.

    Args:
        student, reference, stage_outputs, batch_norm: See `BlockTask`.
        trainer: See `tfcompress.stages.task`; called once for each stage, with
            the names "stage1", "stage2", ...
        epochs: Epochs of each stage.
        optimizer: Function from a learning rate to a Keras optimizer; every
            stage has a fresh one.
        learning_rate: Number, or function of the epoch of the stage.
        start_stage: Stages before this one are not trained but taken as they
            are in `student`.

    Returns:
        `student`, trained in place.

    Raises:
        ValueError: If an argument is not one of these.
    """
    check_stage("start_stage", start_stage, stage_outputs)
    # All are made first: a wrong name must not cost the time of a stage.
    tasks = {
        f"stage{stage}": BlockTask(
            student, reference, stage_outputs, stage, batch_norm
        )
        for stage in range(start_stage, len(stage_outputs) + 1)
    }
    for name, task in tasks.items():
        trainer(task, name, optimizer, learning_rate, epochs)
    return student


def check_stage(name, stage, stage_outputs):
    """Raises a ValueError unless `stage` is the number of a stage.

    Args:
        name: Name of the argument, for the message.
        stage: Number of a stage, from 1.
        stage_outputs: Names of the layers that stages end with.
    """
    if stage not in range(1, len(stage_outputs) + 1):
        raise ValueError(
            f"`{name}` must be a stage from 1 to {len(stage_outputs)}. "
            f"Received: {stage!r}"
        )


def _variables(layers):
    """The trainable variables of layers, each once."""
    variables = {
        id(v): v for _, layer in layers for v in layer.trainable_variables
    }
    return list(variables.values())


def _run(model, inputs, name, call):
    """What the layer `name`, and the whole model, give.

    Args:
        model: The model.
        inputs: Its inputs.
        name: Name of one of its layers.
        call: Called as `call(operation, *args, **kwargs)` for each of them.
    """
    found = {}

    def visit(operation, *args, **kwargs):
        outputs = call(operation, *args, **kwargs)
        if operation.name == name:
            found["features"] = outputs
        return outputs

    found["logits"] = run(model, inputs, visit)
    return found


def _check_shapes(student, reference, name):
    def spec(operation, *args, **kwargs):
        return operation.compute_output_spec(*args, **kwargs)

    ours, theirs = (
        tuple(_run(m, input_specs(m), name, spec)["features"].shape)
        for m in (student, reference)
    )
    if ours != theirs:
        raise ValueError(
            f"layer {name!r} must have the same shape in student and "
            f"reference. Received: {ours} and {theirs}"
        )
