"""The process that measures: `python -m tfcompress.latency.worker SETTINGS`.

Talks in lines of JSON. Reads requests `{"networks": [...], "sampling": {...}}`,
each network `{"name", "file", "as_is"}` of a Keras model or `{"name", "form",
"copies"}` of a micro-network. Answers with any number of `{"progress": [done,
total, what]}` and then `{"timings", "disturbance"}` or `{"error"}`.
"""

import dataclasses
import importlib
import json
import os
import sys


def main():
    settings = json.loads(sys.argv[1])
    # What libraries print must not get between the lines of JSON.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if settings["cpus"] is not None:
        # Before threads are started: these inherit it.
        os.sched_setaffinity(0, settings["cpus"])
    engine = importlib.import_module(settings["module"])
    engine.configure(settings["threads"])
    serve(sys.stdin, channel, engine, settings)


def serve(requests, channel, engine, settings):
    """Answers all requests.

    Args:
        requests: lines of JSON.
        channel: file that takes the answers.
        engine: the module of an `Engine`.
        settings: dictionary of `threads`, `batch_size` and `cpus`.
    """
    from tfcompress.latency.machine import Bystanders
    from tfcompress.latency.sampling import Sampler, Sampling

    def reply(**message):
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    def progress(done, total, what):
        reply(progress=[done, total, what])

    bystanders = Bystanders(settings["cpus"])
    for line in requests:
        request = json.loads(line)
        sampler = Sampler(
            Sampling(**request["sampling"]), engine.clock, bystanders
        )
        try:
            calls = _prepared(request["networks"], engine, settings, progress)
            timings, disturbance = sampler.take(calls, progress)
        except Exception as error:
            # Told to the one who asked; the next request may go well.
            reply(error=f"{type(error).__name__}: {error}")
            continue
        reply(
            timings={
                name: dataclasses.asdict(timing)
                for name, timing in timings.items()
            },
            disturbance=dataclasses.asdict(disturbance),
        )


def _prepared(networks, engine, settings, progress):
    """Dictionary from name to a function that runs the network once."""
    calls = {}
    for done, network in enumerate(networks, start=1):
        name = network["name"]
        try:
            calls[name] = engine.prepare(
                _model(network),
                settings["batch_size"],
                settings["threads"],
                network.get("as_is", False),
            )
        except Exception as error:
            raise RuntimeError(
                f"{network.get('title', name)} cannot be run "
                f"({type(error).__name__}: {error})"
            ) from error
        progress(done, len(networks), "preparing")
    return calls


def _model(network):
    import keras

    from tfcompress.latency.micro_networks import LayerForm, build

    if "form" in network:
        form = LayerForm.from_key(network["form"])
        return build(form, network["copies"])
    # The file was written by the process that asks.
    return keras.saving.load_model(
        network["file"], compile=False, safe_mode=False
    )


if __name__ == "__main__":
    main()
