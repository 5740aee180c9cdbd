"""The compressors of MUSCO 1.0: one rank selection for all layers.

Each makes the configuration of a `Compressor`. The argument `ranks` maps names
of layers to None (the layer stays as it is), 0 (its rank is selected) or the
rank, `(out, in)` for Tucker-2, to use instead.
"""

from tfcompress import graph
from tfcompress.musco import config
from tfcompress.musco.compressor import Compressor
from tfcompress.stats import model_stats as stats_of


class CompressorVBMF(Compressor):
    """Tucker-2 and SVD with the ranks that EVBMF finds, weakened.

    Args:
        model, model_stats, all_algo_kwargs, progress: see `Compressor`.
        ranks: see above.
        vbmf_weakenen_factors: dictionary from name to weakening factor in
            [0, 1], or one for all layers; 0.8 where there is none. 0 keeps the
            ranks as they are, 1 takes those of EVBMF.
        ft_every: layers per step, all if None.
        nglobal_compress_iters: how often each layer is compressed.
    """

    def __init__(
        self,
        model,
        model_stats=None,
        ranks=None,
        vbmf_weakenen_factors=None,
        ft_every=None,
        nglobal_compress_iters=1,
        **kwargs,
    ):
        settings = _Settings(model, model_stats, "vbmf")
        settings.set_values("vbmf_weakenen_factor", vbmf_weakenen_factors)
        settings.set_ranks(ranks, nglobal_compress_iters)
        super().__init__(
            model,
            model_stats,
            settings.entries,
            ft_every,
            nglobal_compress_iters,
            **kwargs,
        )


class CompressorPR(Compressor):
    """Ranks by the factor by which each pass divides a layer's parameters.

    Args:
        model, model_stats, all_algo_kwargs, progress: see `Compressor`.
        conv2d_nn_decomposition: method of convolutions larger than 1 x 1,
            `"tucker2"` if None; the others and dense layers get `"svd"`.
        ranks: see above.
        param_reduction_rates: dictionary from name to factor above 1, or one
            for all layers; 2 where there is none.
        ft_every: layers per step, all if None.
        nglobal_compress_iters: how often each layer is compressed.
    """

    def __init__(
        self,
        model,
        model_stats=None,
        conv2d_nn_decomposition=None,
        ranks=None,
        param_reduction_rates=None,
        ft_every=None,
        nglobal_compress_iters=1,
        **kwargs,
    ):
        settings = _Settings(model, model_stats, "param_reduction")
        settings.set_method(conv2d_nn_decomposition)
        settings.set_values("param_reduction_rate", param_reduction_rates)
        settings.set_ranks(ranks, nglobal_compress_iters)
        super().__init__(
            model,
            model_stats,
            settings.entries,
            ft_every,
            nglobal_compress_iters,
            **kwargs,
        )


class CompressorManual(Compressor):
    """Ranks by hand; layers without one stay as they are.

    Args:
        model, model_stats, all_algo_kwargs, progress: see `Compressor`.
        conv2d_nn_decomposition: as for `CompressorPR`.
        ranks: dictionary from name to the rank, or to a list with one for each
            pass. A rank that stands for all passes changes nothing after the
            first one.
        ft_every: layers per step, all if None.
        nglobal_compress_iters: how often each layer is compressed.
    """

    def __init__(
        self,
        model,
        model_stats=None,
        conv2d_nn_decomposition=None,
        ranks=None,
        ft_every=None,
        nglobal_compress_iters=1,
        **kwargs,
    ):
        settings = _Settings(model, model_stats, "param_reduction")
        settings.set_method(conv2d_nn_decomposition)
        settings.set_ranks(ranks, nglobal_compress_iters, only=True)
        super().__init__(
            model,
            model_stats,
            settings.entries,
            ft_every,
            nglobal_compress_iters,
            **kwargs,
        )


class _Settings:
    """A generated configuration that is changed layer by layer.

    Attributes:
        entries: dictionary from path to the entry of a layer, or None.
    """

    def __init__(self, model, stats, config_type):
        self._layers = dict(graph.walk(graph.as_functional(model)))
        stats = stats_of(model) if stats is None else stats
        self.entries = config.generate_model_compr_kwargs(stats, config_type)
        # Also of grouped convolutions, which are compressed by hand only.
        self._methods = {
            path: config.generate_layer_compr_kwargs(
                {**info, "groups": 1}, config_type
            )["decomposition"]
            for path, info in stats.ltypes.items()
        }

    def set_method(self, method):
        """The method of the convolutions that Tucker-2 is generated for."""
        for path, generated in self._methods.items():
            if method and generated == "tucker2":
                self._methods[path] = method
                if self.entries[path]:
                    self.entries[path]["decomposition"] = method

    def set_values(self, key, values):
        """A key of all layers, by one number, or of some, by a dictionary."""
        if not isinstance(values, dict):
            values = (
                {} if values is None else dict.fromkeys(self.entries, values)
            )
        for path, value in self._by_path(values).items():
            if self.entries.get(path) and value is not None:
                self.entries[path][key] = value

    def set_ranks(self, ranks, passes, only=False):
        """The ranks of some layers by hand.

        Args:
            ranks: dictionary from name to None, 0, the rank, or a list with
                one for each pass.
            passes: how many times each layer is compressed.
            only: whether the other layers are left alone; 0 is an error then.
        """
        found = self._by_path(ranks or {})
        if only:
            left = [path for path in self.entries if path not in found]
            self.entries |= dict.fromkeys(left)
        for path, rank in found.items():
            if rank is None:
                self.entries[path] = None
            elif rank == 0 and only:
                raise ValueError(
                    f"`ranks` of the layer {path!r} must be chosen by hand, or "
                    "be None to leave the layer alone. Received: 0, for which "
                    "CompressorVBMF and CompressorPR select ranks"
                )
            elif rank != 0:
                every = (
                    rank if isinstance(rank, list) else [rank] * (passes or 1)
                )
                self.entries[path] = {
                    "decomposition": self._methods.get(path, "svd"),
                    "rank_selection": "manual",
                    "manual_rank": every,
                }

    def _by_path(self, values):
        return config.merge_model_compr_kwargs({}, values, self._layers)
