"""What the phases of one run share: devices, data, folders, models."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import time

import keras
import tensorflow as tf

from official_resnet import recipes
from tfcompress import distribution
from tfcompress.cli import compression, flags, models
from tfcompress.cli.images import official
from tfcompress.cli.run_directory import RunDirectory
from tfcompress.graph import as_functional
from tfcompress.training import Trainer, evaluate
from tfcompress.training.replication import readable_loss_of_workers


class Session:
    """The flags of a run, checked once and turned into objects.

    Make it before anything else uses TensorFlow's devices.

    Args:
        images: the `Images` to work on; by default those of the flags, as the
            official networks take them.
        batch_size: examples per step over all devices, the flag's if None.

    Raises:
        ValueError: if a flag is missing or out of range.
    """

    def __init__(self, images=None, batch_size=None):
        for set_threads, number in (
            (
                tf.config.threading.set_intra_op_parallelism_threads,
                flags.INTRA_OP_THREADS.value,
            ),
            (
                tf.config.threading.set_inter_op_parallelism_threads,
                flags.INTER_OP_THREADS.value,
            ),
        ):
            if number:
                set_threads(number)
        name = flags.DISTRIBUTION_STRATEGY.value
        if flags.MULTI_GPU.value:
            name = "mirrored"
        self.strategy = distribution.get_strategy(
            name,
            num_gpus=flags.NUM_GPUS.value,
            virtual_cpus=flags.VIRTUAL_CPUS.value,
        )
        self.chief = distribution.is_chief(self.strategy)
        self.batch_size = batch_size or flags.BATCH_SIZE.value
        self._images = images or official(self.batch_size)
        self.dataset = self._images.dataset
        distribution.replica_batch_size(self.batch_size, self.strategy)
        self.seed = flags.SEED.value
        keras.utils.set_random_seed(self.seed)
        self._log = None

    @functools.cached_property
    def source(self):
        """The data."""
        return self._images.load()

    @property
    def source_settings(self):
        """Which data the results are of."""
        return dict(self._images.settings)

    @property
    def data_settings(self):
        """What the results of a training depend on besides its own flags."""
        return {
            **self.source_settings,
            "batch_size": self.batch_size,
            "max_train_steps": flags.MAX_TRAIN_STEPS.value,
            "learning_rate_scale": flags.LEARNING_RATE_SCALE.value,
            "stretch_recipe": flags.STRETCH_RECIPE.value,
            "seed": self.seed,
        }

    @property
    def model_settings(self):
        """What a model that is built here depends on."""
        return {
            "resnet_size": flags.RESNET_SIZE.value
            or models.DEFAULT_SIZES[self.dataset],
            "resnet_version": flags.RESNET_VERSION.value,
            "data_format": flags.DATA_FORMAT.value,
            "dtype": flags.DTYPE.value,
            "batch_norm_momentum": flags.BATCH_NORM_MOMENTUM.value,
        }

    def new_model(self):
        """A fresh official ResNet as the flags describe it."""
        return models.build(
            self.dataset,
            size=flags.RESNET_SIZE.value,
            version=int(flags.RESNET_VERSION.value),
            data_format=flags.DATA_FORMAT.value,
            dtype=flags.DTYPE.value,
            batch_norm_momentum=flags.BATCH_NORM_MOMENTUM.value,
            num_classes=self.source.num_classes,
        )

    def load(self, path, local=False):
        """The model at `path`.

        Args:
            path: see `models.find`.
            local: whether the model is for this process alone, to be changed
                by NumPy; by default it is on the devices of the session.

        Raises:
            ValueError: if there is none, or it does not take the data.
        """
        scope = contextlib.nullcontext() if local else self.strategy.scope()
        with scope:
            model = as_functional(models.load(path, self.new_model))
        models.check_fits(model, path, self.source)
        return model

    def output_path(self, *names):
        """The folder of these names in OUTPUT_DIR."""
        if flags.OUTPUT_DIR.value is None:
            raise ValueError("`--output_dir` is needed; name a folder")
        return pathlib.Path(flags.OUTPUT_DIR.value, *names)

    def phase_path(self, phase):
        """OUTPUT_DIR/phaseN/METHOD/rateRATE."""
        self.output_path()
        method, rate = compression.method_and_rate()
        return self.output_path(f"phase{phase}", method, f"rate{rate:g}")

    def open(self, path, settings, log=None, free=None):
        """The run's folder at `path`, made if it is not there.

        Args:
            path: the folder.
            settings: see `RunDirectory`.
            log: name of the log that keeps what is printed from now on,
                METHOD_RATE if None; a run that is done writes none.
            free: see `RunDirectory`.
        """
        directory = RunDirectory(path, settings, flags.OVERWRITE.value, free)
        self.barrier()
        if self.chief:
            directory.create()
        self.barrier()
        directory.opened()
        self._log = None
        if directory.results is None:
            name = log or "{}_{:g}".format(*compression.method_and_rate())
            self._log = directory.file(f"{name}.log")
        return directory

    def recipe(self, phase, epochs):
        """How to train in a phase, as the flags change it.

        Args:
            phase: name of one of the data set's recipes.
            epochs: number of epochs; the recipe's if 0 or None.
        """
        # Images in folders are trained on as ImageNet is.
        name = "imagenet" if self.dataset == "folders" else self.dataset
        recipe = recipes.get(name, phase)
        epochs = epochs or recipe.epochs
        if flags.STRETCH_RECIPE.value:
            recipe = recipe.in_epochs(epochs)
        return dataclasses.replace(
            recipe,
            epochs=epochs,
            base_rate=recipe.base_rate * flags.LEARNING_RATE_SCALE.value,
        )

    def trainer(self, path, **options):
        """A trainer that keeps its state in a folder.

        Args:
            path: of the folder.
            **options: further ones of `Trainer`, or others than the flags'.
        """
        settings = {
            "seed": self.seed,
            "epochs_between_evals": flags.EPOCHS_BETWEEN_EVALS.value,
            "max_steps": flags.MAX_TRAIN_STEPS.value,
            "checkpoint_steps": flags.CHECKPOINT_STEPS.value,
            **options,
        }
        return Trainer(
            self.source,
            path,
            batch_size=self.batch_size,
            strategy=self.strategy,
            **settings,
        )

    def evaluate(self, model, steps=None):
        """Means of the metrics over the test images.

        Args:
            model: made in the scope of the session's strategy.
            steps: number of batches, all if None.
        """
        return evaluate(
            model, self.source, self.batch_size, self.strategy, steps
        )

    def conclude(self, directory, model):
        """Saves a trained model with its accuracy; returns the results."""
        results = {"after": self.evaluate(model)}
        self.print_metrics(results["after"])
        if self.chief:
            models.save(model, directory.file("model.keras"))
            directory.finish(results)
        self.barrier()
        return results

    def barrier(self):
        """Waits until all workers are here."""
        with readable_loss_of_workers():
            distribution.wait_for_all(self.strategy)

    def progress(self, path, done, total):
        """Shows which layer of a decomposition is done."""
        if self.chief and sys.stdout.isatty():
            end = "\n" if done == total else ""
            print(f"\r  {done}/{total} {path:<60.60}", end=end, flush=True)

    def timed_progress(self):
        """A function (what, done, total) that prints what took how long."""
        start = time.perf_counter()

        def show(what, done, total):
            nonlocal start
            now = time.perf_counter()
            self.print(f"  {done}/{total} {what} ({now - start:.1f} s)")
            start = now

        return show

    def print_metrics(self, metrics, what="test"):
        """Prints numbers by name in one line."""
        values = ", ".join(f"{k} {v:.4f}" for k, v in metrics.items())
        self.print(f"  {what}: {values}")

    def print(self, text=""):
        """Prints once, not once per worker, and keeps it in the log."""
        if not self.chief:
            return
        print(text, flush=True)
        if self._log is not None:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            with self._log.open("a", encoding="utf-8") as file:
                file.writelines(f"{now} {s}\n" for s in str(text).split("\n"))
