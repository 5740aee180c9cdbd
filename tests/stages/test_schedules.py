"""Learning rates at hand-computed epochs."""

import keras
import numpy as np
import pytest

from tfcompress.stages import schedules


def test_piecewise_constant():
    schedule = schedules.piecewise_constant([91, 136], [0.1, 0.01, 0.001])
    assert [schedule(e) for e in (0, 90.99, 91, 135.5, 136, 500)] == [
        0.1, 0.1, 0.01, 0.01, 0.001, 0.001,
    ]  # fmt: skip


def test_cosine():
    schedule = schedules.cosine(0.4, epochs=10, final=0.2)
    assert [schedule(e) for e in (0, 5, 10, 11)] == pytest.approx(
        [0.4, 0.3, 0.2, 0.2]
    )


def test_per_step():
    schedule = schedules.piecewise_constant([1, 2], [3.0, 2.0, 1.0])
    table = schedules.per_step(schedule, steps_per_epoch=2, steps=5)
    rates = [float(table(np.int64(step))) for step in range(7)]
    assert rates == [3, 3, 2, 2, 1, 1, 1]
    saved = keras.optimizers.schedules.serialize(table)
    again = keras.optimizers.schedules.deserialize(saved)
    assert float(again(2)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.piecewise_constant([1], [1.0]), "`rates`"),
        (lambda: schedules.piecewise_constant([2, 1], [1, 1, 1]), "increase"),
        (lambda: schedules.piecewise_constant([1, 1], [1, 1, 1]), "increase"),
        (lambda: schedules.cosine(0.1, 0), "`epochs`"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
