"""What a reordering left of a network, in parameters and in bytes."""

from tfcompress.decompositions.decomposition import FLOAT_BYTES
from tfcompress.packing import bits_below
from tfcompress.report import SKIPPED_COLUMNS
from tfcompress.tables import percent, table

LAYER_COLUMNS = (
    "layer",
    "weights",
    "rows",
    "columns",
    "coefficients",
    "index entries",
    "bits each",
    "bytes",
    "of coefficients",
    "of the index",
    "kept",
    "error",
)
TOTAL_COLUMNS = ("total", "before", "after", "kept")


def describe(compressed, plan, report):
    """The tables of a reordered network, and their sums.

    Args:
        compressed: the network.
        plan: the `Plan` that was carried out.
        report: the `Report`.

    Returns:
        The text, and a dictionary: the sums of the report and, as the authors
        of the method count, `"parameters"` (all of the network, an entry of an
        index as one) and `"trainable"` (the coefficients); `"index_entries"`,
        `"coefficient_bytes"` and `"index_bytes"`.
    """
    chosen = plan.values()
    results = {
        **report.totals,
        "parameters": compressed.count_params(),
        "trainable": plan.params_after,
        "index_entries": sum(d.num_constants for d in chosen),
        "coefficient_bytes": FLOAT_BYTES * plan.params_after,
        "index_bytes": sum(d.constant_bytes for d in chosen),
    }
    parts = [
        table(
            LAYER_COLUMNS,
            [_layer_row(layer, plan[layer.path]) for layer in report.layers],
        ),
        table(TOTAL_COLUMNS, _total_rows(report, results)),
    ]
    if report.skipped:
        parts.append(table(SKIPPED_COLUMNS, report.skipped.items()))
    return "\n\n".join(parts) + "\n", results


def _layer_row(layer, decomposition):
    limit = decomposition.constant_limits["index"]
    return (
        layer.path,
        layer.params.before,
        decomposition.ranks[0],
        decomposition.length,
        decomposition.num_params,
        decomposition.num_constants,
        bits_below(limit),
        layer.bytes.before,
        FLOAT_BYTES * decomposition.num_params,
        decomposition.constant_bytes,
        percent(layer.bytes.after, layer.bytes.before),
        layer.error,
    )


def _total_rows(report, results):
    # All weights that Keras saves are of four bytes, but for the indices.
    before = FLOAT_BYTES * report.params.before
    after = before - report.bytes.before + report.bytes.after
    rows = (
        (
            "parameters (with index entries and statistics)",
            report.params.before,
            results["parameters"],
        ),
        (
            "trainable (weights of reordered layers; coefficients)",
            report.kernels.before,
            results["trainable"],
        ),
        ("index entries", 0, results["index_entries"]),
        (
            "bytes of reordered layers (coefficients; packed index)",
            report.bytes.before,
            report.bytes.after,
        ),
        ("bytes of the packed index", 0, results["index_bytes"]),
        ("bytes of all weights", before, after),
    )
    return [(*row, percent(row[2], row[1]) if row[1] else "") for row in rows]
