"""Trainings that end in the middle."""

import pytest

# TensorFlow is imported where it is used: without it the test modules are
# skipped, and this file must still load.


@pytest.fixture
def interrupt():
    """Ends the process, so to speak, before the n-th call of a method.

    By default of the training steps; each call replaces the one before it.
    """
    from small_trainer import Interruption

    from tfcompress.training.steps import TrainingSteps

    patch = pytest.MonkeyPatch()

    def interrupt_before(call, owner=TrainingSteps, method="__call__"):
        patch.undo()
        run = getattr(owner, method)
        calls = iter(range(1, call))

        def run_or_stop(*args):
            if next(calls, None) is None:
                raise Interruption
            return run(*args)

        patch.setattr(owner, method, run_or_stop)

    yield interrupt_before
    patch.undo()
