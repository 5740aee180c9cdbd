"""What a compression did to each layer of a model."""

import dataclasses
import math

import keras

from tfcompress import files, graph, linalg, pages
from tfcompress.layers import Tensorized
from tfcompress.plan import Plan
from tfcompress.replacement import Site, holds_kernel, kernel_of, obstacle
from tfcompress.stats import model_stats
from tfcompress.tables import percent, table


@dataclasses.dataclass(frozen=True)
class Change:
    """Something before and after.

    Attributes:
        before: a number, None if it is not known.
        after: likewise.
    """

    before: int | None
    after: int | None

    @property
    def kept(self):
        """The share that is left, None if it is not known."""
        if self.after is None or not self.before:
            return None
        return self.after / self.before

    @property
    def cells(self):
        """Before, after and the share, for a table."""
        return self.before, self.after, percent(self.after, self.before)

    def to_dict(self):
        return {"before": self.before, "after": self.after, "kept": self.kept}


@dataclasses.dataclass(frozen=True)
class CompressedLayer:
    """What was done to one layer.

    Attributes:
        path: names of the models around it and of itself, joined by "/".
        type: class name of the layer that was replaced.
        method: name of the decomposition.
        ranks: its ranks.
        implementation: `"factorized"` or `"reconstructed"`.
        params: `Change` of the parameters of the kernel.
        macs: `Change` of the multiply-adds per example of all its calls.
        bytes: `Change` of the size of the kernel in a file, with what is
            stored beside its parameters.
        error: Frobenius norm of the difference of the kernels, over that of
            the kernel before.
    """

    path: str
    type: str
    method: str
    ranks: tuple
    implementation: str
    params: Change
    macs: Change
    bytes: Change
    error: float

    def to_dict(self):
        return {
            **{
                name: getattr(self, name)
                for name in ("path", "type", "method", "implementation")
            },
            "ranks": list(self.ranks),
            "params": self.params.to_dict(),
            "macs": self.macs.to_dict(),
            "bytes": self.bytes.to_dict(),
            "error": self.error if math.isfinite(self.error) else None,
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """What a compression did to a model. Print it, or write it to a file.

    Attributes:
        name: of the model.
        layers: tuple of `CompressedLayer`, in the order of the model.
        skipped: dictionary from path to the reason why a layer with a kernel
            was left alone.
        kernels: `Change` of the parameters of the compressed kernels together.
        params: `Change` of the parameters of the whole model.
        macs: `Change` of the multiply-adds per example of the whole model.
        bytes: `Change` of the size of the compressed kernels in a file.
    """

    name: str
    layers: tuple
    skipped: dict
    kernels: Change
    params: Change
    macs: Change
    bytes: Change

    def __str__(self):
        parts = [
            table(LAYER_COLUMNS, [layer_cells(layer) for layer in self.layers]),
            table(TOTAL_COLUMNS, self.total_rows),
        ]
        if self.skipped:
            parts.append(table(SKIPPED_COLUMNS, self.skipped.items()))
        return "\n\n".join(parts) + "\n"

    @property
    def totals(self):
        """The totals as a dictionary of numbers, None where not known."""
        numbers = {"compressed_layers": len(self.layers)}
        for name in ("kernels", "bytes", "params", "macs"):
            for key, value in getattr(self, name).to_dict().items():
                numbers[f"{name}_{key}"] = value
        return numbers

    @property
    def total_rows(self):
        """The totals as rows under `TOTAL_COLUMNS`."""
        return [
            (
                f"parameters of compressed kernels ({len(self.layers)})",
                *self.kernels.cells,
            ),
            ("bytes of compressed kernels", *self.bytes.cells),
            (f"parameters of {self.name}", *self.params.cells),
            (f"MACs of {self.name}", *self.macs.cells),
        ]

    def to_dict(self):
        """The report as dictionaries, lists, strings and numbers."""
        return {
            "name": self.name,
            "totals": self.totals,
            "layers": [layer.to_dict() for layer in self.layers],
            "skipped": dict(self.skipped),
        }

    def to_json(self, path):
        """Writes `to_dict` to a file, whole or not at all."""
        files.write_json(path, self.to_dict())

    def to_html(self, path):
        """Writes a page that needs no other file, whole or not at all."""
        rows = [layer_cells(layer) for layer in self.layers]
        sections = [
            ("Totals", TOTAL_COLUMNS, self.total_rows),
            ("Compressed", LAYER_COLUMNS, rows),
            ("Left alone", SKIPPED_COLUMNS, self.skipped.items()),
        ]
        title = f"Compression of {self.name}"
        files.write_text(path, pages.render(title, sections))


def report(model, compressed, plan=None, input_shape=None):
    """What was done to each layer of a model.

    The error is that of the factors as they are now, also after training.

    Args:
        model: the model as it was.
        compressed: what `compress` or `rewrite` made of it, perhaps trained,
            saved and loaded since.
        plan: the `Plan` that was carried out, for the reasons of what it left
            alone; by default the one that `compressed` keeps, if it was not
            loaded from a file.
        input_shape: shape of the inputs where the model leaves sizes open, as
            for `model_stats`. Without it multiply-adds are then not known.

    Returns:
        A `Report`.

    Raises:
        ValueError: if `compressed` was not made of `model`.
    """
    model = graph.as_functional(model)
    compressed = graph.as_functional(compressed)
    layers, new = dict(graph.walk(model)), dict(graph.walk(compressed))
    replaced = [
        path
        for path, layer in new.items()
        if isinstance(layer, Tensorized)
        and layer.decomposition
        != getattr(layers.get(path), "decomposition", None)
    ]
    _check(layers, new, replaced)
    if plan is None:
        plan = getattr(compressed, "compression_plan", None)
    reasons = plan.skipped if isinstance(plan, Plan) else {}
    costs = [_macs(m, input_shape) for m in (model, compressed)]
    rows = tuple(
        _compressed_layer(path, layers[path], new[path], *costs)
        for path in replaced
    )
    skipped = {
        path: reasons.get(path) or obstacle(layer) or "not chosen"
        for path, layer in layers.items()
        if holds_kernel(layer) and path not in replaced
    }
    return Report(
        model.name,
        rows,
        skipped,
        _sum(row.params for row in rows),
        Change(model.count_params(), compressed.count_params()),
        Change(*(cost.get(None) for cost in costs)),
        _sum(row.bytes for row in rows),
    )


def _sum(changes):
    changes = list(changes)
    return Change(
        sum(change.before for change in changes),
        sum(change.after for change in changes),
    )


def _compressed_layer(path, old, new, macs_before, macs_after):
    kernel = kernel_of(old)
    approximation = keras.ops.convert_to_numpy(
        keras.ops.cast(new.reconstruct(), "float32")
    )
    site = Site.of(old, ())
    return CompressedLayer(
        path,
        site.layer,
        new.method,
        tuple(new.ranks),
        new.chosen_implementation,
        Change(site.num_params, new.decomposition.num_params),
        Change(macs_before.get(path), macs_after.get(path)),
        Change(site.num_bytes, new.decomposition.num_bytes),
        linalg.relative_error(kernel, approximation),
    )


def _macs(model, input_shape):
    """Multiply-adds by path, and of the model under None; {} if not known."""
    if input_shape is None and not graph.has_known_sizes(model):
        return {}
    stats = model_stats(model, input_shape)
    return {None: stats.macs, **{row.path: row.macs for row in stats.layers}}


def _check(layers, new, replaced):
    for path in replaced:
        old = layers.get(path)
        fits = (
            old is not None
            and obstacle(old) is None
            and Site.of(old, ()).kernel == new[path].keras_kernel_shape
        )
        if not fits:
            raise ValueError(
                "`compressed` was not made of `model`, which has no kernel "
                f"like that of {path!r}. Received: the kernel shape "
                f"{tuple(new[path].keras_kernel_shape)}"
            )
    missing = [
        path
        for path, layer in layers.items()
        if layer.weights and path not in new
    ]
    if missing:
        raise ValueError(
            "`compressed` was not made of `model`: it lacks the layer "
            f"{missing[0]!r}"
        )


LAYER_COLUMNS = (
    "layer",
    "type",
    "method",
    "ranks",
    "params",
    "after",
    "kept",
    "MACs",
    "after",
    "kept",
    "bytes kept",
    "error",
    "implementation",
)
TOTAL_COLUMNS = ("total", "before", "after", "kept")
SKIPPED_COLUMNS = ("left alone", "reason")


def layer_cells(layer):
    """The row of a `CompressedLayer` under `LAYER_COLUMNS`."""
    return (
        layer.path,
        layer.type,
        layer.method,
        ", ".join(map(str, layer.ranks)),
        *layer.params.cells,
        *layer.macs.cells,
        percent(layer.bytes.after, layer.bytes.before),
        layer.error,
        layer.implementation,
    )
