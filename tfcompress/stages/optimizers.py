"""Stochastic gradient descent whose momentum follows a schedule."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfcompress")
class ScheduledSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with a momentum that is a function of the step.

    The momentum of Keras' SGD is a number, and a compiled step keeps the one it
    was traced with. Here it is looked up in each step, by the optimizer's own
    counter, which checkpoints hold.

    Args:
        learning_rate: Number or Keras schedule.
        momentum: Keras schedule, a function of the step, such as
            `schedules.per_step` makes.
        **arguments: `nesterov` and the other arguments of SGD.
    """

    def __init__(self, learning_rate, momentum, **arguments):
        # Any number but 0, for which SGD would not remember gradients.
        super().__init__(learning_rate, momentum=1.0, **arguments)
        self.momentum_schedule = momentum

    def update_step(self, gradient, variable, learning_rate):
        rate, momentum = (
            ops.cast(x, variable.dtype)
            for x in (learning_rate, self.momentum_schedule(self.iterations))
        )
        step = ops.multiply(ops.cast(gradient, variable.dtype), rate)
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(
            velocity, ops.subtract(ops.multiply(velocity, momentum), step)
        )
        if self.nesterov:
            ahead = ops.subtract(ops.multiply(velocity, momentum), step)
            self.assign_add(variable, ahead)
        else:
            self.assign_add(variable, velocity)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": keras.saving.serialize_keras_object(
                self.momentum_schedule
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["momentum"] = keras.saving.deserialize_keras_object(
            config["momentum"], custom_objects
        )
        return super().from_config(config, custom_objects)
