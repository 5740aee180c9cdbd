"""The names of MUSCO's port to TensorFlow.

    from tfcompress.musco.tf import CompressorVBMF, compress_noseq, compress_seq

stands for the import from `musco.tf`. All settings of a layer are kept, and a
layer never grows: one that would is left alone.
"""

import collections.abc
import dataclasses

import keras
import numpy as np

from tfcompress import graph
from tfcompress.musco.config import path_of, with_name
from tfcompress.musco.engine import compress_layers, plan_of
from tfcompress.musco.single_layers import request_for, warn_of_skipped
from tfcompress.names import hint
from tfcompress.planning import Survey
from tfcompress.ranks import Reduction, from_code
from tfcompress.ranks.checks import is_positive_integer
from tfcompress.rewrite import rewrite
from tfcompress.stats import layer_types


class CompressionError(ValueError):
    """A model that cannot be compressed as it is asked for."""


def compress_seq(
    model,
    decompose_info,
    optimize_rank=False,
    vbmf=True,
    vbmf_weaken_factor=0.8,
    rank_selection="manual",
    param_reduction_rate=None,
):
    """A copy of a Sequential model in which some layers are compressed.

    Args:
        model: a built `keras.Sequential`.
        decompose_info, optimize_rank, vbmf, vbmf_weaken_factor,
            rank_selection, param_reduction_rate: see `compress_noseq`.

    Returns:
        A `keras.Sequential`.

    Raises:
        CompressionError: see `compress_noseq`; also for other models.
    """
    if not isinstance(model, keras.Sequential):
        raise CompressionError(
            "`model` must be a keras.Sequential. Use `compress_noseq` for "
            f"other models. Received: {type(model).__name__}"
        )
    return compress_noseq(
        model,
        decompose_info,
        optimize_rank,
        vbmf,
        vbmf_weaken_factor,
        rank_selection,
        param_reduction_rate,
    )


def compress_noseq(
    model,
    decompose_info,
    optimize_rank=False,
    vbmf=True,
    vbmf_weaken_factor=0.8,
    rank_selection="manual",
    param_reduction_rate=None,
):
    """A copy of a model in which some layers are compressed, perhaps anew.

    The graph may be any, with several inputs and outputs, nested models and
    layers that are called more than once; these stay shared. A layer that
    would not get smaller is left alone, with a warning that says why.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed.
        decompose_info: dictionary from the name of a layer, or its path, to
            `(method, rank)`. Methods are `"svd"`, `"svd_1x1"` (of 1 x 1
            convolutions), `"cp3"`, `"cp4"` and `"tucker2"`; a rank is an
            integer, for `"tucker2"` a pair (out, in).
        optimize_rank: whether to select the ranks of convolutions: for
            `"cp3"` and `"cp4"` the `rank` given is then the number by which
            to divide the parameters, above 1; that of `"tucker2"` is not
            looked at, or its first entry is such a number if `vbmf` is False;
            that of `"svd"` stays the rank.
        vbmf: whether `"tucker2"` gets the ranks of EVBMF.
        vbmf_weaken_factor: how far these go from the present ranks to those
            that EVBMF finds, in [0, 1].
        rank_selection: `"manual"`, `"vbmf"` or `"param_reduction"`: how the
            rank of `"svd_1x1"` is selected.
        param_reduction_rate: the number by which the last one divides.

    Returns:
        The new model, which is not compiled.

    Raises:
        CompressionError: if a layer or a method is unknown, or what is asked
            for does not fit the layer; it names the layer.
    """
    model = graph.as_functional(model)
    settings = _Settings(
        optimize_rank,
        vbmf,
        vbmf_weaken_factor,
        rank_selection,
        param_reduction_rate,
    )
    try:
        requests = _requests(model, decompose_info, settings)
        compressed, records = compress_layers(model, requests)
    except ValueError as error:
        raise CompressionError(str(error)) from error
    warn_of_skipped(records)
    return compressed


class CompressorVBMF:
    """Compresses the next few layers at a time, with fine-tuning in between.

        compressor = CompressorVBMF(model)
        while not compressor.done:
            model = compressor.compress_iteration(number=5)
            ...  # fine-tune `model`

    Convolutions and dense layers are taken in the order of the model, the first
    one too. Ranks are selected by EVBMF, weakened; those of `"cp3"` and
    `"cp4"`, which are no ranks of matrices, by dividing the parameters. Dense
    layers are stored by a singular value decomposition. After the last layer it
    begins again with the first, and compresses what the layers have become.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed.
        number: layers per iteration.
        conv2d: the decomposition of convolutions: `"tucker2"`, `"cp3"` or
            `"cp4"`.
        vbmf_weaken_factor: how far ranks go from the present ones to those
            that EVBMF finds, in [0, 1].
        param_reduction_rate: the number, above 1, by which the parameters of a
            layer stored by `"cp3"` or `"cp4"` are divided.

    Attributes:
        compressed_model: the model after the iterations so far.
        layer_names: paths of the layers, in their order.
        history: for each iteration a list of `engine.Record`, which tell why
            a layer was left alone.

    Raises:
        CompressionError: if an argument is out of range.
    """

    def __init__(
        self,
        model,
        number=5,
        conv2d="tucker2",
        vbmf_weaken_factor=0.8,
        *,
        param_reduction_rate=2.0,
    ):
        _check_number(number)
        try:
            vbmf = from_code(0, vbmf_weaken_factor)
            reduction = "reduction", Reduction(param_reduction_rate)
        except ValueError as error:
            raise CompressionError(str(error)) from error
        selections = {"tucker2": vbmf, "cp3": reduction, "cp4": reduction}
        if conv2d not in selections:
            raise CompressionError(
                f"`conv2d` must be one of {', '.join(selections)}. "
                f"Received: {conv2d!r}.{hint(conv2d, selections)}"
            )
        model = graph.as_functional(model)
        types = layer_types(model)
        self._survey = survey = Survey.of(model)
        self._requests = {
            path: request_for(survey.layers[path], conv2d, selections[conv2d])
            if types[path]["kernel_size"]
            else request_for(survey.layers[path], "svd", vbmf)
            for path in survey.sites
        }
        self.number = number
        self.layer_names = list(self._requests)
        self.compressed_model = rewrite(model, {})
        self.history = []
        self._next = 0
        self._visited = 0

    @property
    def done(self):
        """Whether every layer has had its turn."""
        return self._visited >= len(self.layer_names)

    def compress_iteration(self, number=None):
        """Compresses the next layers; fewer at the end of the model.

        Args:
            number: how many, that of the constructor if None.

        Returns:
            The new `compressed_model`. Fine-tune it in place, or set the
            attribute to what it has become.

        Raises:
            CompressionError: if a kernel holds NaN or infinite values, or an
                argument is out of range; it names the layer.
        """
        if number is not None:
            _check_number(number)
        end = self._next + (number or self.number)
        paths = self.layer_names[self._next : end]
        try:
            model, records = compress_layers(
                self.compressed_model,
                {path: self._requests[path] for path in paths},
            )
        except ValueError as error:
            raise CompressionError(str(error)) from error
        self.compressed_model = model
        self.history = [*self.history, records]
        model.compression_plan = plan_of(self._survey, model, self.history)
        self._visited += len(paths)
        self._next = end if end < len(self.layer_names) else 0
        return model


def to_tf_kernel_order(kernel):
    """A convolution kernel (out, in, h, w) in the order (h, w, in, out)."""
    return np.transpose(_four_axes(kernel), (2, 3, 1, 0))


def to_pytorch_kernel_order(kernel):
    """A convolution kernel (h, w, in, out) in the order (out, in, h, w)."""
    return np.transpose(_four_axes(kernel), (3, 2, 0, 1))


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The arguments of `compress_noseq` that select ranks."""

    optimize_rank: bool
    vbmf: bool
    vbmf_weaken_factor: float
    rank_selection: str
    param_reduction_rate: float | None


def _requests(model, decompose_info, settings):
    if not isinstance(decompose_info, collections.abc.Mapping):
        raise ValueError(
            "`decompose_info` must be a dictionary from layer to (method, "
            f"rank). Received: {decompose_info!r}"
        )
    layers = dict(graph.walk(model))
    requests = {}
    for name, wanted in decompose_info.items():
        path = path_of(name, layers)
        if path in requests:
            raise ValueError(f"The layer {path!r} is named twice")
        requests[path] = with_name(
            path, _request, layers[path], wanted, settings
        )
    return requests


def _request(layer, wanted, settings):
    if not isinstance(wanted, (tuple, list)) or len(wanted) != 2:
        raise ValueError(
            "`decompose_info` must hold a pair, (method, rank). "
            f"Received: {wanted!r}"
        )
    method, rank = wanted
    select = _as_given
    if isinstance(method, str):
        method = method.lower()
        if settings.optimize_rank:
            select = _OPTIMIZED.get(method, _as_given)
    selection = select(rank, settings)
    return request_for(layer, method, selection, tuple(_OPTIMIZED))


def _as_given(rank, settings):
    ranks = rank if isinstance(rank, (tuple, list)) else [rank]
    if not all(map(is_positive_integer, ranks)):
        raise ValueError(
            "the rank must be a positive integer, for 'tucker2' a pair of them "
            f"(out, in). Received: {rank!r}"
        )
    return from_code(rank)


def _by_rate(rank, settings):
    return "reduction", Reduction(rank)


def _by_vbmf_or_rate(rank, settings):
    if settings.vbmf:
        return from_code(0, settings.vbmf_weaken_factor)
    return _by_rate(
        rank[0] if isinstance(rank, (tuple, list)) and rank else rank, settings
    )


def _by_selection(rank, settings):
    selections = {
        "manual": lambda: _as_given(rank, settings),
        "vbmf": lambda: from_code(0, settings.vbmf_weaken_factor),
        "param_reduction": lambda: _by_rate(
            settings.param_reduction_rate, settings
        ),
    }
    if settings.rank_selection not in selections:
        raise ValueError(
            f"`rank_selection` must be one of {', '.join(selections)}. "
            f"Received: {settings.rank_selection!r}"
        )
    return selections[settings.rank_selection]()


# How `optimize_rank` selects the ranks of each method.
_OPTIMIZED = {
    "svd": _as_given,
    "svd_1x1": _by_selection,
    "cp3": _by_rate,
    "cp4": _by_rate,
    "tucker2": _by_vbmf_or_rate,
}


def _check_number(number):
    if not is_positive_integer(number):
        raise CompressionError(
            "`number` must be a positive integer, the layers per iteration. "
            f"Received: {number!r}"
        )


def _four_axes(kernel):
    kernel = np.asarray(kernel)
    if kernel.ndim != 4:
        raise ValueError(
            "`kernel` must be that of a two-dimensional convolution, with four "
            f"axes. Received the shape: {kernel.shape}"
        )
    return kernel
