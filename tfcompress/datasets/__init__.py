"""Image data for the trainers: a registry of sources, each a pair of pipelines.

    source = datasets.get("cifar10")(data_dir)
    for images, labels in source.train(batch_size=128, epoch=0, seed=0): ...
    for images, labels, weights in source.evaluation(batch_size=128): ...

Every source is a `tfcompress.datasets.source.Source`; its class docstring
states what training loops may rely on. Inside the context
`source.readable_errors(data)` of that module a loop over damaged data ends with
the name of the file. Adding a source is one module and one line in the table
below.
"""

import importlib

# name -> module and function; imported on demand, since scikit-learn and
# tensorflow-datasets are optional.
_SOURCES = {
    "cifar10": ("cifar10", "load"),
    "digits": ("digits", "load"),
    "folders": ("folders", "load"),
    "imagenet": ("imagenet", "load"),
    "synthetic": ("synthetic", "load"),
    "tfds/cifar10": ("tfds", "load_cifar10"),
    "tfds/imagenet": ("tfds", "load_imagenet"),
}


def names():
    """The registered source names, sorted."""
    return sorted(_SOURCES)


def get(name):
    """The factory of a data source.

    Args:
        name: One of `names()`.

    Returns:
        A function that returns a `Source`. All but `synthetic` take the folder
        of the data, `data_dir`, as first argument, and `normalization`, how
        the values are scaled: see `normalization.get`; `None` is the way of the
        data set's official networks.

    Raises:
        ValueError: If no source has this name.
    """
    if name not in _SOURCES:
        raise ValueError(
            f"`name` must be one of {', '.join(names())}. Received: {name!r}"
        )
    module, function = _SOURCES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
