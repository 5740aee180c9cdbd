"""What the flags say about compression."""

import keras

import tfcompress as tc
from official_resnet.resnet_model import stage_outputs
from tfcompress.cli import flags
from tfcompress.decompositions import resolve
from tfcompress.ranks import check_rate

# TTP leaves the first convolution and the classifier alone.
OFFICIAL_EXCLUDES = ("stem_conv", "final_dense")


def method_and_rate():
    """Both flags, checked.

    Raises:
        ValueError: if one is missing, there is no such method, or the rate is
            out of range.
    """
    method, rate = flags.METHOD.value, flags.RATE.value
    if method is None or rate is None:
        raise ValueError(
            "`--method` and `--rate` are needed, for example "
            "--method=tucker --rate=0.25"
        )
    resolve(method)
    return method, check_rate(rate)


def settings():
    """The flags that decide how a given model is compressed."""
    method, rate = method_and_rate()
    return {
        "method": method,
        "rate": rate,
        "rate_decay": flags.RATE_DECAY.value,
        "include": flags.INCLUDE.value,
        "exclude": flags.EXCLUDE.value,
    }


def plan(model):
    """The `Plan` of a model.

    Raises:
        ValueError: if it would leave all layers alone.
    """
    method, rate = method_and_rate()
    made = tc.make_plan(
        model,
        method=method,
        rate=rate,
        include=flags.INCLUDE.value,
        exclude=excludes(model),
        rate_schedule=flags.RATE_DECAY.value,
        stages=official_stages(model),
    )
    if not made:
        reasons = "; ".join(f"{k}: {v}" for k, v in made.skipped.items())
        raise ValueError(
            f"`--rate` {rate:g} leaves nothing of {model.name} to compress; "
            f"choose a larger one ({reasons})"
        )
    return made


def fresh(model):
    """An untrained network with factors in place of a model's kernels.

    The factors are drawn anew: those of random kernels would have a smaller
    variance than the layers' initializers ask for.
    """
    return keras.models.clone_model(tc.compress(model, plan=plan(model)))


def excludes(model, by_default=OFFICIAL_EXCLUDES):
    """The layers to leave alone: the flag's, or those by default.

    Args:
        model: the network.
        by_default: names of layers; those that the model has are taken.
    """
    chosen = flags.EXCLUDE.value
    if chosen:
        return [] if chosen == ["none"] else chosen
    names = {layer.name for layer in model.layers}
    return [name for name in by_default if name in names]


def official_stages(model):
    """Where an official ResNet's stages end; None for other models."""
    try:
        return stage_outputs(model)
    except ValueError:
        return None
