"""Compressing a network of the zoo: what its programs share.

A run has a folder with its settings, plan, reports and results, and ends with a
`.keras` file beside it. It needs no data.
"""

import pathlib

from absl import flags as absl_flags

import tfcompress as tc
from tfcompress import zoo
from tfcompress.cli import (
    flags,
    models,
    outcome,
    reports,
    zoo_flags,
    zoo_models,
)
from tfcompress.cli.run_directory import RunDirectory
from tfcompress.planning import NOT_SELECTED

RANDOM_WEIGHTS = absl_flags.DEFINE_bool(
    "random_weights",
    False,
    "Compress an untrained network, to see sizes and times.",
)
NUM_CLASSES = absl_flags.DEFINE_integer(
    "num_classes",
    None,
    "Classes of a state dict that was trained for others than the network's "
    "own; a .keras file knows its own.",
    lower_bound=1,
)


def weights(choice):
    """What is compressed, checked without reading all of it.

    Args:
        choice: the `zoo.Network`.

    Returns:
        As `zoo_models.start`.

    Raises:
        ValueError: if the flags name nothing, or there is nothing.
    """
    asked = zoo_flags.WEIGHTS.value
    if asked is None and not RANDOM_WEIGHTS.value:
        fetched = " or ".join(map(repr, choice.pretrained))
        raise ValueError(
            "`-weights` is needed: the file of a trained "
            f"{choice.name}{fetched and f', or {fetched}'}; or pass "
            "--random_weights to compress an untrained one"
        )
    if asked is not None and RANDOM_WEIGHTS.value:
        raise ValueError(
            "`-weights` and `--random_weights` exclude each other. "
            f"Received: {asked} and --random_weights"
        )
    return zoo_models.start(asked, choice)


def settings(choice, path):
    """What a model that `load` gives depends on, for a `RunDirectory`.

    Args:
        choice, path: see `load`.
    """
    return {
        **zoo_models.settings(choice, path),
        "num_classes": NUM_CLASSES.value,
        # Of random weights; others do not depend on it.
        "seed": flags.SEED.value if path is None else None,
    }


def load(choice, path):
    """The network that is compressed.

    Args:
        choice: the `zoo.Network`.
        path: what `weights` returned. A `.keras` file is loaded as it is.

    Raises:
        ValueError: if the file is damaged, or of another network.
    """
    if isinstance(path, pathlib.Path) and path.suffix == ".keras":
        if NUM_CLASSES.value is not None:
            raise ValueError(
                f"`--num_classes` has no effect on {path}, which knows its "
                f"classes. Received: {NUM_CLASSES.value}"
            )
        return zoo_models.load(path, choice)
    return zoo.build(choice.name, weights=path, num_classes=NUM_CLASSES.value)


def compress(
    session, name, place, settings, original, plan, describe, factorize=None
):
    """Compresses a network, or finds it done.

    A wrong input ends before anything is written.

    Args:
        session: the `Session`.
        name: of the program, for the screen.
        place: path of the `.keras` file that the run ends with; its folder has
            the same path without the suffix.
        settings: dictionary of JSON values that the result depends on.
        original: function without arguments that returns the network.
        plan: function from it to a `Plan`.
        describe: function (compressed, plan, report) that returns the text to
            print and a dictionary of results.
        factorize: see `rewrite`.

    Returns:
        The results, with `"file_bytes"`.

    Raises:
        ValueError: if the folder is of other settings, another file is in the
            place, or nothing would get smaller.
    """
    path = place.with_suffix("")
    looked = RunDirectory(path, settings, flags.OVERWRITE.value)
    if looked.results is not None:
        directory = looked
        session.print(f"{name} is done: {path}")
    else:
        model = original()
        made = plan(model)
        _check_not_empty(made)
        outcome.make_way(session, place)
        directory = session.open(path, settings, log=name)
        session.print(f"{name}: compressing into {place}")
        compressed = tc.rewrite(
            model, made, session.timed_progress(), factorize=factorize
        )
        report = tc.report(model, compressed, plan=made)
        text, results = describe(compressed, made, report)
        session.print(f"\n{text}")
        if session.chief:
            _write(directory, compressed, made, report, text, results)
    if session.chief:
        outcome.publish(directory.file("model.keras"), place)
    session.barrier()
    results = directory.results
    session.print(f"results: {place}, {results['file_bytes']:,} bytes")
    return results


def _check_not_empty(plan):
    if not plan:
        reasons = {path: plan.skipped[path] for path in plan.sites}
        path, reason = next(
            item for item in reasons.items() if item[1] != NOT_SELECTED
        )
        raise ValueError(
            f"nothing of {plan.totals.name} would get smaller; compress it "
            f"more. The first layer, {path}: {reason}"
        )


def _write(directory, compressed, plan, report, text, results):
    file = directory.file("model.keras")
    models.save(compressed, file)
    reports.write(directory, plan, report, text)
    directory.finish({**results, "file_bytes": file.stat().st_size})
