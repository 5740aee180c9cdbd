"""MUSCO's loop, one step at a time: compress some layers, then fine-tune.

Gusak et al., "Automated Multi-Stage Compression of Neural Networks", 2019
(arXiv 1903.09973).
"""

from tfcompress import graph
from tfcompress.decompositions import name_of
from tfcompress.musco import algorithms, config, schedule
from tfcompress.musco.engine import (
    Record,
    Request,
    compress_layers,
    latest_records,
    plan_of,
)
from tfcompress.musco.selections import to_manual_rank
from tfcompress.names import hint
from tfcompress.planning import Survey
from tfcompress.report import report
from tfcompress.rewrite import rewrite
from tfcompress.stats import model_stats as stats_of
from tfcompress.tables import percent, table


class Compressor:
    """Compresses a model in steps, with fine-tuning by the caller in between.

        compressor = Compressor(model, config_type="vbmf", ft_every=5,
                                nglobal_compress_iters=2)
        while not compressor.done:
            compressor.compression_step()
            ...  # fine-tune compressor.compressed_model

    Each step compresses the next `ft_every` layers, in the order of the model
    and round again, until every layer was compressed `nglobal_compress_iters`
    times. A later pass decomposes the kernel that the layer's factors have
    become by fine-tuning. No layer ever grows: where a step finds nothing to
    save it leaves the layer alone and says why.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed, and neither is the configuration.
        model_stats: `tfcompress.model_stats(model)`, or None.
        model_compr_kwargs: dictionary from the name of a layer to how it is
            compressed, see `generate_model_compr_kwargs`; a layer with None
            stays as it is, one that is not named goes by `config_type`.
        ft_every: layers per step, all of them if None.
        nglobal_compress_iters: how often each layer is compressed; 1 if None.
        all_algo_kwargs: dictionary from the name of a decomposition to options
            of its algorithm, see `musco.algorithms`.
        config_type: `"none"`, `"vbmf"` or `"param_reduction"`: the generated
            configuration that `model_compr_kwargs` updates.
        groups: list of lists of layers, instead of `ft_every`: each step
            compresses the next group. See `musco.groups`.
        progress: called as `progress(path, done, total)` after each layer.

    Attributes:
        compressed_model: the model after the steps so far, to be fine-tuned in
            place; each step replaces it by a new one.
        done: whether all steps are done.
        curr_iter, niters: steps done, and steps in all.
        lnames: paths of the layers to compress, in the order of the model.
        history: one list of `Record` per step done.

    Raises:
        ValueError: if an argument is out of range; it names the layer.
    """

    def __init__(
        self,
        model,
        model_stats=None,
        model_compr_kwargs=None,
        ft_every=1,
        nglobal_compress_iters=None,
        all_algo_kwargs=None,
        config_type="none",
        *,
        groups=None,
        progress=None,
    ):
        self._original = graph.as_functional(model)
        self._survey = Survey.of(self._original)
        passes = 1 if nglobal_compress_iters is None else nglobal_compress_iters
        wanted = {} if model_compr_kwargs is None else model_compr_kwargs
        if config_type != "none":
            wanted = config.merge_model_compr_kwargs(
                _generated(self._original, model_stats, config_type),
                wanted,
                self._survey.layers,
            )
        self._schedules = config.read_config(
            wanted, self._survey.layers, passes
        )
        self._options = algorithms.check_algo_kwargs(all_algo_kwargs or {})
        self._progress = progress
        self.lnames = list(self._schedules)
        if groups is None:
            steps = schedule.layer_steps(self.lnames, ft_every, passes)
        else:
            _check_groups(groups, self._schedules)
            steps = schedule.group_steps(groups, passes)
        self._steps = steps
        self._begin()

    @property
    def niters(self):
        return len(self._steps)

    @property
    def curr_iter(self):
        return len(self.history)

    @property
    def done(self):
        return self.curr_iter >= self.niters

    @property
    def steps(self):
        """The paths that each step compresses, as a list of lists."""
        return [[path for path, _ in step] for step in self._steps]

    @property
    def decompositions(self):
        """Dictionary from path to the name of its decomposition."""
        return {path: _method(s) for path, s in self._schedules.items()}

    @property
    def ranks(self):
        """Dictionary from path to its ranks now, None while it has none.

        In the order of `manual_rank`: (out, in) for tucker2, an integer where
        there is one rank only.
        """
        layers = dict(graph.walk(self.compressed_model))
        return {path: _manual_rank(layers[path]) for path in self.lnames}

    def compression_step(self):
        """Compresses the layers of the next step.

        Nothing changes if it fails, so that it can be repeated. When all steps
        are done it does nothing.

        Returns:
            List of `Record`, one per layer of the step.

        Raises:
            ValueError: if the ranks asked for do not fit a kernel, or one holds
                NaN or infinite values; it names the layer.
        """
        if self.done:
            return []
        requests = {
            path: self._request(path, number)
            for path, number in self._steps[self.curr_iter]
        }
        model, records = compress_layers(
            self.compressed_model, requests, self._progress
        )
        self._advance(model, [*self.history, records])
        return records

    def restore(self, model, history):
        """Goes on from where an earlier process was.

        Args:
            model: the fine-tuned model of the last step of `history`; not
                looked at if there is none, and all begins with the original.
            history: the attribute of then; lists of `Record`, or of what their
                `to_dict` gave, also from a JSON file.
        """
        steps = [
            [
                record
                if isinstance(record, Record)
                else Record.from_dict(record)
                for record in records
            ]
            for records in history
        ]
        found = [[record.path for record in records] for records in steps]
        if found != self.steps[: len(found)]:
            raise ValueError(
                "`history` must be that of the same schedule, whose steps are "
                f"{self.steps}. Received: {found}"
            )
        if steps:
            self._advance(model, steps)
        else:
            self._begin()

    def report(self):
        """`tfcompress.report` of the model as it was and as it is now."""
        return report(self._original, self.compressed_model)

    def __str__(self):
        latest, ranks = latest_records(self.history), self.ranks
        rows = []
        for path, wanted in self._schedules.items():
            site, record = self._survey.sites.get(path), latest.get(path)
            before = None if site is None else site.num_params
            after = before if record is None else record.params_after
            rows.append(
                (
                    path,
                    _method(wanted),
                    str(wanted),
                    self._passes_done(path),
                    "" if ranks[path] is None else str(ranks[path]),
                    before,
                    after,
                    percent(after, before),
                    "" if record is None else record.skipped or "",
                )
            )
        params = [
            m.count_params() for m in (self._original, self.compressed_model)
        ]
        state = (
            f"step {self.curr_iter} of {self.niters}; parameters of "
            f"{self._original.name}: {params[0]:,} -> {params[1]:,} "
            f"({percent(params[1], params[0])})"
        )
        return f"{table(COLUMNS, rows)}\n\n{state}\n"

    def _request(self, path, number):
        wanted = self._schedules[path]
        policy, value = wanted.at(number)
        factorize = algorithms.factorizer(
            wanted.method, wanted.quantized, self._options
        )
        return Request(wanted.method, policy, value, factorize)

    def _begin(self):
        self.history = []
        self.compressed_model = rewrite(self._original, {})

    def _advance(self, model, history):
        self.history = history
        self.compressed_model = model
        model.compression_plan = plan_of(self._survey, model, history)

    def _passes_done(self, path):
        return sum(path == r.path for records in self.history for r in records)


COLUMNS = (
    "layer",
    "method",
    "rank selection",
    "passes",
    "ranks",
    "params",
    "now",
    "kept",
    "left alone",
)


def _generated(model, stats, config_type):
    if config_type == "template":
        raise ValueError(
            "`config_type` 'template' makes a form to be filled in: pass what "
            "`generate_model_compr_kwargs(model_stats, 'template')` gives, "
            "filled in, as `model_compr_kwargs`"
        )
    stats = stats_of(model) if stats is None else stats
    return config.generate_model_compr_kwargs(stats, config_type)


def _check_groups(groups, schedules):
    for path in (path for group in groups for path in group):
        if path not in schedules:
            raise ValueError(
                f"`groups` names the layer {path!r}, which the configuration "
                f"does not compress.{hint(path, schedules)}"
            )


def _method(wanted):
    return f"{wanted.method} in 8 bits" if wanted.quantized else wanted.method


def _manual_rank(layer):
    """The ranks of a layer as a configuration writes them, None if dense."""
    decomposition = getattr(layer, "decomposition", None)
    if decomposition is None:
        return None
    return to_manual_rank(name_of(decomposition), decomposition.ranks)
