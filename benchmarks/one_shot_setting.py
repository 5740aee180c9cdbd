"""The setting of the comparisons of compression in one shot.

Trained networks, normalized images, and how a compressed network is measured.
"""

import dataclasses
import functools
import time

import keras
import numpy as np

import tfcompress as tc
from tfcompress import graph
from tfcompress.datasets import cifar10
from tfcompress.planning import Survey
from tfcompress.selection import kinds
from tfcompress.stages.batch_norm import reestimate_batch_norm
from tfcompress.zoo.network import IMAGENET_DEVIATIONS, IMAGENET_MEANS

CALIBRATION_IMAGES = 1024
BATCH_SIZE = 128
HEADER = (
    "| method | MACs asked for | MACs kept | parameters kept | accuracy, % | "
    "points | seconds |\n|---|---|---|---|---|---|---|"
)


@dataclasses.dataclass(frozen=True)
class Data:
    """Normalized images, float32 (n, 32, 32, 3).

    Attributes:
        calibration: training images, without labels.
        images: test images.
        labels: of these.
    """

    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to compress, measured.

    Attributes:
        method: what was done, for tables.
        target: share of the multiply-adds that was asked for; None where the
            method finds its ranks by itself.
        macs: share of the multiply-adds that is left.
        params: share of the parameters that is left.
        accuracy: share of the test images that it gets right.
        points: 100 times the accuracy less that of the original.
        seconds: for compression, everything but loading and evaluation.
    """

    method: str
    target: float | None
    macs: float
    params: float
    accuracy: float
    points: float
    seconds: float


def load_data(folder, count=None):
    """`Data` of a folder in CIFAR-10's binary layout, `count` test images."""

    images = normalized_training_images(folder, CALIBRATION_IMAGES)
    tests, labels = cifar10.read(folder, "test")
    return Data(images, _normalized(tests[:count]), labels[:count])


def normalized_training_images(folder, count):
    """The first training images, float32 (count, 32, 32, 3)."""
    images, _ = cifar10.read(folder, "train")
    return _normalized(images[:count])


def _normalized(images):
    values = images.astype("float32") / 255 - np.float32(IMAGENET_MEANS)
    return values / np.float32(IMAGENET_DEVIATIONS)


def accuracy(model, data):
    """Share of the test images whose largest logit is the label's."""
    logits = model.predict(data.images, batch_size=BATCH_SIZE, verbose=0)
    return float((logits.argmax(axis=1) == data.labels).mean())


class Network:
    """A trained network and what of it is to be compressed.

    Args:
        model: functional model, channels last, that gives logits.
        data: `Data`.

    Attributes:
        macs: its multiply-adds.
        accuracy: of the network as it is.
        layers: dictionary from path to each convolution that is larger than
            1 x 1, but the first.
        sites: dictionary from the same paths to `Site`.
    """

    def __init__(self, model, data):
        self.model, self.data = model, data
        survey = Survey.of(model)
        found = kinds(list(survey.layers.items()))
        self.sites = {
            path: site
            for path, site in survey.sites.items()
            if found[path] == {"@any", "@conv"}
        }
        self.layers = {path: survey.layers[path] for path in self.sites}
        self.macs = survey.totals.macs
        self.accuracy = accuracy(model, data)

    def budget(self, target):
        """Multiply-adds that the compressed layers may have together."""
        inside = sum(site.num_macs for site in self.sites.values())
        return target * self.macs - (self.macs - inside)

    def row(self, method, target, compressed, seconds):
        """The `Row` of a compressed network."""
        found = accuracy(compressed, self.data)
        return Row(
            method,
            target,
            tc.model_stats(compressed).macs / self.macs,
            compressed.count_params() / self.model.count_params(),
            found,
            100 * (found - self.accuracy),
            seconds,
        )

    def rows(self, method, target, compress):
        """Three rows: compressed, and with batch normalization repaired.

        Re-estimated, it standardizes the images at hand, which is more than a
        repair where they differ from those of training; matched, activations
        get the moments that they had in the original network.

        Args:
            method: for the table.
            target: share of the multiply-adds.
            compress: function without arguments that gives the network.
        """
        start = time.perf_counter()
        compressed = compress()
        seconds = time.perf_counter() - start
        yield self.row(method, target, compressed, seconds)
        for name, repair in (
            ("re-estimated", reestimate_batch_norm),
            ("matched", functools.partial(match_batch_norm, self.model)),
        ):
            start = time.perf_counter()
            repair(compressed, self._batches())
            needed = seconds + time.perf_counter() - start
            yield self.row(f"{method}, BN {name}", target, compressed, needed)

    def reestimated_points(self):
        """What re-estimation alone changes, in points of accuracy."""
        same = tc.rewrite(self.model, {})
        reestimate_batch_norm(same, self._batches())
        return 100 * (accuracy(same, self.data) - self.accuracy)

    def _batches(self):
        images = self.data.calibration
        return np.split(images, range(BATCH_SIZE, len(images), BATCH_SIZE))


def match_batch_norm(original, compressed, batches):
    """Gives activations the moments that they have in the original network.

    Batch by batch and layer after layer, as re-estimation goes. With m, s the
    mean and deviation by which the original normalizes, n, t those of what
    comes to it there, and u, v those of what comes in the compressed network,
    which is normalized by: mean u - (n - m) v / t, deviation s v / t.

    Args:
        original: the network.
        compressed: with layers of the same names; changed in place.
        batches: list of arrays of images.
    """
    found = {}

    def run(model, batch, act):
        def visit(operation, *args, **kwargs):
            if isinstance(operation, keras.layers.BatchNormalization):
                x = keras.ops.convert_to_numpy(args[0])
                act(operation, x.mean((0, 1, 2)), x.std((0, 1, 2)) + 1e-12)
            return operation(*args, **kwargs)

        graph.run(model, keras.ops.convert_to_tensor(batch), visit)

    def assign(layer, mean, deviation):
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(
            np.maximum(deviation**2 - layer.epsilon, 0.0)
        )

    for batch in batches:
        wanted = {}

        def record(layer, mean, deviation, wanted=wanted):
            wanted[layer.name] = mean, deviation

        def repair(layer, u, v, wanted=wanted):
            n, t = wanted[layer.name]
            before = original.get_layer(layer.name)
            m, variance = map(
                keras.ops.convert_to_numpy,
                (before.moving_mean, before.moving_variance),
            )
            s = np.sqrt(variance + before.epsilon)
            moments = u - (n - m) * v / t, s * v / t
            assign(layer, *moments)
            found.setdefault(layer.name, []).append(moments)

        run(original, batch, record)
        run(compressed, batch, repair)
    for name, moments in found.items():
        assign(compressed.get_layer(name), *np.mean(moments, axis=0))


def line(row):
    """A row of the table."""
    asked = "-" if row.target is None else f"{row.target:.2f}"
    return (
        f"| {row.method} | {asked} | {row.macs:.3f} | {row.params:.3f} | "
        f"{100 * row.accuracy:.2f} | {row.points:+.2f} | {row.seconds:.1f} |"
    )


class Augmented(keras.utils.PyDataset):
    """Images mirrored and shifted at random, without labels."""

    def __init__(self, images, batch_size=100):
        super().__init__()
        self._images, self._size = images, batch_size
        self._rng = np.random.default_rng(0)
        self._order = np.arange(len(images))

    def __len__(self):
        return len(self._images) // self._size

    def on_epoch_begin(self):
        self._rng.shuffle(self._order)

    def __getitem__(self, i):
        rows = self._order[i * self._size : (i + 1) * self._size]
        batch = self._images[rows]
        mirrored = self._rng.random(len(batch)) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
        padded = np.pad(batch, ((0, 0), (4, 4), (4, 4), (0, 0)))
        corners = self._rng.integers(0, 9, size=(len(batch), 2))
        batch = np.stack(
            [
                image[y : y + 32, x : x + 32]
                for image, (y, x) in zip(padded, corners, strict=True)
            ]
        )
        return batch, np.zeros(len(batch), np.int32)
