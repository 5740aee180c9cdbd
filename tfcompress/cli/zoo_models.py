"""Networks of the zoo by name, with weights from files."""

import pathlib

from absl import flags as absl_flags

from tfcompress import graph, zoo
from tfcompress.cli import flags, models, zoo_flags
from tfcompress.graph import as_functional


def network(*datasets):
    """The network that `--network` names.

    Args:
        *datasets: those that a program is for, as `zoo.Network.dataset`; any
            if there are none.

    Returns:
        A `zoo.Network`.

    Raises:
        ValueError: if it is not named, there is none of this name, or it is
            for other data.
    """
    name = zoo_flags.NETWORK.value
    if name is None:
        raise ValueError(
            "`-net` is needed; name a network, such as "
            f"{_example(datasets)} (zoo.names() has all)"
        )
    found = zoo.get(name)
    if datasets and found.dataset not in datasets:
        raise ValueError(
            f"`-net` {found.name} is for {found.dataset}; this program trains "
            f"networks for {' and '.join(datasets)}, such as "
            f"{_example(datasets)}"
        )
    return found


def start(path, choice):
    """What a run begins with, checked without reading all of it.

    Args:
        path: what `--weights` says: a file, a folder with `model.keras`, or a
            name in `Network.pretrained`; None for random weights.
        choice: the `zoo.Network`.

    Returns:
        The path of the file; `path` itself if it is no path.

    Raises:
        ValueError: if there is nothing.
    """
    if path is None or path in choice.pretrained:
        return path
    found = models.find(path)
    if found is None:
        what = "does not exist"
        if pathlib.Path(path).is_dir():
            what = "is a folder without model.keras"
        raise ValueError(
            f"`-weights` {path} {what}; name a .keras file, a .weights.h5, or "
            "a state dict of PyTorch"
        )
    return found


def settings(choice, path):
    """What a model that `make` makes depends on, for a `RunDirectory`.

    Args:
        choice, path: see `make`.
    """
    is_file = isinstance(path, pathlib.Path)
    return {
        "network": choice.name,
        "weights": models.fingerprint(path) if is_file else path,
        "dtype": dtype(),
    }


def make(session, choice, path=None):
    """A network, on the devices of a session, that takes its images.

    Args:
        session: the `Session`.
        choice: the `zoo.Network`.
        path: what `start` returned. A `.keras` file is loaded as it is, also
            if it is a compressed network; other files fill a fresh network.

    Returns:
        A functional `keras.Model` that gives logits.

    Raises:
        ValueError: if the file is damaged, or of another network, or the model
            does not take the images.
    """
    with session.strategy.scope():
        if isinstance(path, pathlib.Path) and path.suffix == ".keras":
            model = _with_precision(load(path, choice))
        else:
            with models.precision(dtype() or "fp32"):
                model = zoo.build(
                    choice.name,
                    weights=path,
                    num_classes=session.source.num_classes,
                    input_shape=session.source.image_shape,
                )
    models.check_fits(model, path or choice.name, session.source)
    return model


def load(path, choice):
    """A saved network, or what a compression made of it.

    Args:
        path: of the `.keras` file.
        choice: the `zoo.Network` that it must be.

    Raises:
        ValueError: if the file is damaged or of another network of the zoo.
    """
    model = as_functional(models.load_keras(path))
    if model.name in zoo.names() and model.name != choice.name:
        raise ValueError(
            f"{path} is a {model.name}, not a {choice.name}; choose -net "
            f"{model.name}, or weights of {choice.name}"
        )
    return model


def file_stem(path):
    """The name of a file of weights, without what tells its kind."""
    path = pathlib.Path(path)
    name = path.name
    for suffix in (path.suffix, ".weights"):
        name = name.removesuffix(suffix)
    return name


def dtype():
    """What `--dtype` or `--amp` asks for; None if nothing.

    Raises:
        ValueError: if they contradict each other.
    """
    chosen = flags.DTYPE.value if _is_given(flags.DTYPE) else None
    if not zoo_flags.AMP.value:
        return chosen
    if chosen not in (None, "fp16"):
        raise ValueError(
            f"`--amp` stands for --dtype=fp16. Received: --dtype={chosen} too"
        )
    return "fp16"


def _with_precision(model):
    """A model whose layers compute as the flags say; the same if nothing."""
    asked = dtype()
    if asked is None:
        return model
    policy = models.POLICIES[asked]
    last = model.outputs[0]._keras_history.operation

    def converted(path, layer):
        del path
        if layer is last:
            # Logits are float32, as in networks that are built so.
            return None
        return type(layer).from_config({**layer.get_config(), "dtype": policy})

    copy = graph.clone(model, converted)
    copy.set_weights(model.get_weights())
    return copy


def _is_given(flag):
    return absl_flags.FLAGS[flag.name].present > 0


def _example(datasets):
    return "imagenet_resnet18" if "imagenet" in datasets else "cifar10_resnet20"
