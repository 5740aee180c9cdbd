"""tf.distribute strategies from the flags of the official models."""

import json
import os

import tensorflow as tf

STRATEGIES = (
    "default",
    "off",
    "one_device",
    "mirrored",
    "multi_worker_mirrored",
)

_MIRRORED_REDUCE = {
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical_copy": tf.distribute.HierarchicalCopyAllReduce,
    "reduction_to_one_device": tf.distribute.ReductionToOneDevice,
}
_WORKERS_REDUCE = {
    "nccl": tf.distribute.experimental.CommunicationImplementation.NCCL,
    "ring": tf.distribute.experimental.CommunicationImplementation.RING,
}


def get_strategy(
    distribution_strategy="default",
    num_gpus=None,
    all_reduce_alg=None,
    virtual_cpus=None,
):
    """The strategy that a program runs under.

    Call it before anything else uses TensorFlow's devices.

    Args:
        distribution_strategy: "off" for none; "one_device"; "mirrored" for the
            devices of this machine; "multi_worker_mirrored" for the workers of
            the environment variable `TF_CONFIG`; "default" for "mirrored" on
            more than one device, else "one_device".
        num_gpus: GPUs to use; 0 for the CPU, `None` or -1 for all there are.
        all_reduce_alg: How gradients are summed: "nccl" or, mirrored,
            "hierarchical_copy" or "reduction_to_one_device" or, over several
            workers, "ring". `None` leaves it to TensorFlow.
        virtual_cpus: Splits the CPU into so many logical devices and uses
            these; to try "mirrored" out without GPUs.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If an argument is not one of these, or asks for devices or
            workers that there are not.
    """
    if distribution_strategy not in STRATEGIES:
        raise ValueError(
            f"`distribution_strategy` must be one of {', '.join(STRATEGIES)}. "
            f"Received: {distribution_strategy!r}"
        )
    try:
        devices = _devices(num_gpus, virtual_cpus)
        if distribution_strategy == "default":
            several = len(devices) > 1
            distribution_strategy = "mirrored" if several else "one_device"
        return _BUILDERS[distribution_strategy](devices, all_reduce_alg)
    except RuntimeError as error:
        raise ValueError(
            "`distribution_strategy` must be chosen before this process uses "
            f"TensorFlow's devices. Received: {distribution_strategy!r} after "
            f"that ({error})"
        ) from error


def is_chief(strategy):
    """Whether this process writes the files: one worker of all does."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def replica_batch_size(batch_size, strategy):
    """Examples per replica of a batch that all replicas share.

    Args:
        batch_size: Examples per step over all replicas.
        strategy: A `tf.distribute.Strategy`.

    Raises:
        ValueError: If the batch cannot be shared out evenly.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size < 1 or batch_size % replicas:
        raise ValueError(
            f"`batch_size` must be a positive multiple of the {replicas} "
            f"device(s) that share it. Received: {batch_size}"
        )
    return batch_size // replicas


def wait_for_all(strategy):
    """Returns once every worker is here."""
    _total(strategy, 0)


def check_same_everywhere(strategy, number, message):
    """Raises unless all workers hold the same number.

    Args:
        strategy: A `tf.distribute.Strategy`.
        number: An integer.
        message: What to raise with.

    Raises:
        ValueError: If another worker holds another number.
    """
    if _total(strategy, number) != number * strategy.num_replicas_in_sync:
        raise ValueError(message)


def _total(strategy, number):
    """The sum of a number over all replicas."""

    def total(number):
        parts = strategy.run(tf.identity, (number,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

    number = tf.constant(number, tf.int64)
    # Traced by hand: TensorFlow warns where a function is made often.
    return int(tf.function(total).get_concrete_function(number)(number))


def _devices(num_gpus, virtual_cpus):
    """Names of the devices to use."""
    present = len(tf.config.list_physical_devices("GPU"))
    if virtual_cpus is not None:
        if num_gpus not in (None, 0):
            raise ValueError(
                "`virtual_cpus` and `num_gpus` exclude each other. "
                f"Received: {virtual_cpus} and {num_gpus}"
            )
        return _split_cpu(virtual_cpus)
    if num_gpus in (None, -1):
        num_gpus = present
    if not 0 <= num_gpus <= present:
        raise ValueError(
            f"`num_gpus` must be at most the {present} GPU(s) that TensorFlow "
            f"finds here, or -1 for all. Received: {num_gpus}"
        )
    return [f"GPU:{i}" for i in range(num_gpus)] or ["CPU:0"]


def _split_cpu(count):
    if count < 1:
        raise ValueError(f"`virtual_cpus` must be positive. Received: {count}")
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    return [f"CPU:{i}" for i in range(count)]


def _off(devices, all_reduce_alg):
    _check_one_device("off", devices, all_reduce_alg)
    if devices == ["CPU:0"] and tf.config.list_physical_devices("GPU"):
        # Without a strategy TensorFlow would take a GPU where there is one.
        tf.config.set_visible_devices([], "GPU")
    return tf.distribute.get_strategy()


def _one_device(devices, all_reduce_alg):
    _check_one_device("one_device", devices, all_reduce_alg)
    return tf.distribute.OneDeviceStrategy(devices[0])


def _mirrored(devices, all_reduce_alg):
    reduce = _choice(_MIRRORED_REDUCE, "mirrored", all_reduce_alg)
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=reduce and reduce()
    )


def _multi_worker_mirrored(devices, all_reduce_alg):
    reduce = _choice(_WORKERS_REDUCE, "multi_worker_mirrored", all_reduce_alg)
    _check_tf_config()
    on_gpu = devices[0].startswith("GPU")
    if not on_gpu and len(devices) > 1:
        raise ValueError(
            "`virtual_cpus` must be None with multi_worker_mirrored, which "
            f"uses one CPU per worker. Received: {len(devices)}"
        )
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[: on_gpu * len(devices)], "GPU")
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=reduce or implementation.AUTO
    )
    return tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=options
    )


_BUILDERS = {
    "off": _off,
    "one_device": _one_device,
    "mirrored": _mirrored,
    "multi_worker_mirrored": _multi_worker_mirrored,
}


def _check_one_device(name, devices, all_reduce_alg):
    if len(devices) > 1:
        raise ValueError(
            f"`distribution_strategy` {name} runs on one device; take "
            f"mirrored or fewer devices. Received: {len(devices)} devices"
        )
    if all_reduce_alg is not None:
        raise ValueError(
            f"`all_reduce_alg` has no meaning with `distribution_strategy` "
            f"{name}; leave it out. Received: {all_reduce_alg!r}"
        )


def _choice(choices, name, all_reduce_alg):
    if all_reduce_alg is None:
        return None
    if all_reduce_alg not in choices:
        raise ValueError(
            f"`all_reduce_alg` of {name} must be one of {', '.join(choices)}. "
            f"Received: {all_reduce_alg!r}"
        )
    return choices[all_reduce_alg]


def _check_tf_config():
    text = os.environ.get("TF_CONFIG", "")
    example = (
        '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    problem = None
    try:
        config = json.loads(text or "{}")
        cluster, task = config["cluster"], config["task"]
        addresses = cluster[task["type"]]
        addresses[task["index"]]
    except (ValueError, LookupError, TypeError):
        problem = "names no cluster with this task" if text else "is not set"
    else:
        if set(cluster) - {"chief", "worker"}:
            problem = "may only name chief and worker tasks"
    if problem:
        raise ValueError(
            "multi_worker_mirrored needs the environment variable TF_CONFIG, "
            f"like {example}, but it {problem}. Received: {text!r}"
        )
