"""Pictures of runs, drawn without a display."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tfcompress.files import atomic_path

# moment of the journal -> how its curve looks.
_CURVES = {
    "compressed": {
        "label": "right after compression",
        "color": "#c44e52",
        "linestyle": ":",
        "marker": "v",
    },
    "reestimated": {
        "label": "batch norm re-estimated",
        "color": "#dd8452",
        "linestyle": "--",
        "marker": "s",
    },
    "fine_tuned": {
        "label": "after fine-tuning",
        "color": "#2f6db3",
        "linestyle": "-",
        "marker": "o",
    },
}
# Metrics that are shares, to be shown in percent.
_SHARES = ("accuracy", "top5_accuracy")


def draw_accuracy(journal, path):
    """Writes the picture of `accuracy_figure`, whole or not at all.

    Args:
        journal: as for that.
        path: of the picture, a `.png` file.
    """
    canvas = FigureCanvasAgg(accuracy_figure(journal))
    with atomic_path(path) as partial:
        canvas.print_png(partial)


def accuracy_figure(journal):
    """Accuracy against compression over the steps of a run.

    Args:
        journal: a `musco.journal.Journal` with a step at least, which was
            measured before.

    Returns:
        A matplotlib `Figure` with one curve for each moment that was measured.
    """
    figure = Figure(figsize=(7.5, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _, _, original = journal.curve("before")[0]
    axes.axhline(original, color="#888888", linewidth=1, label="original")
    for moment, style in _CURVES.items():
        curve = journal.curve(moment)
        if moment == "fine_tuned":
            curve = [(0, 1.0, original), *curve]
        if curve:
            _, compression, values = zip(*curve, strict=True)
            axes.plot(compression, values, linewidth=1.6, **style)
    for number, x, y in journal.curve("fine_tuned"):
        axes.annotate(
            str(number),
            (x, y),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_title(
        f"{journal.name}: {_name(journal.metric)} over the steps of MUSCO"
    )
    axes.set_xlabel(
        "compression: parameters of the original / of the network "
        "(numbers: steps)"
    )
    axes.set_ylabel(f"{_name(journal.metric)}, test images")
    if journal.metric in _SHARES:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_formatter("{x:g} x")
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)
    # Below the axes, where it hides no curve.
    figure.legend(loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _name(metric):
    return metric.replace("_", " ")
