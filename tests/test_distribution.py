"""Strategies from flags, and readable refusals."""

import json
import subprocess
import sys

import pytest

tf = pytest.importorskip("tensorflow")

from tfcompress import distribution  # noqa: E402

CLUSTER = {"worker": ["localhost:1", "localhost:2"]}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize("name", ["off", "one_device", "default", "mirrored"])
def test_one_device(name):
    strategy = distribution.get_strategy(name, num_gpus=0)
    assert strategy.num_replicas_in_sync == 1
    assert distribution.is_chief(strategy)
    distribution.wait_for_all(strategy)
    distribution.check_same_everywhere(strategy, 3, "never raised")


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("nccl", tf.distribute.NcclAllReduce),
        ("hierarchical_copy", tf.distribute.HierarchicalCopyAllReduce),
        ("reduction_to_one_device", tf.distribute.ReductionToOneDevice),
    ],
)
def test_all_reduce(algorithm, kind):
    strategy = distribution.get_strategy(
        "mirrored", num_gpus=0, all_reduce_alg=algorithm
    )
    assert isinstance(strategy.extended._cross_device_ops, kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distribution_strategy": "tpu"}, "must be one of default, off"),
        ({"num_gpus": 999}, "`num_gpus` must be at most the .* GPU"),
        ({"num_gpus": -2}, "`num_gpus`"),
        ({"virtual_cpus": 0}, "`virtual_cpus` must be positive"),
        ({"virtual_cpus": 2, "num_gpus": 1}, "exclude each other"),
        (
            {"distribution_strategy": "mirrored", "all_reduce_alg": "ring"},
            "`all_reduce_alg` of mirrored must be one of nccl",
        ),
        (
            {"distribution_strategy": "off", "all_reduce_alg": "nccl"},
            "`all_reduce_alg` has no meaning",
        ),
        (
            {
                "distribution_strategy": "multi_worker_mirrored",
                "all_reduce_alg": "hierarchical_copy",
            },
            "must be one of nccl, ring",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        distribution.get_strategy(**{"num_gpus": 0, **arguments})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "is not set"),
        ("{not json", "names no cluster"),
        ({"cluster": CLUSTER}, "names no cluster"),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": 2}},
            "names no cluster with this task",
        ),
        (
            {"cluster": CLUSTER, "task": {"type": "chief", "index": 0}},
            "names no cluster with this task",
        ),
        (
            {
                "cluster": {**CLUSTER, "ps": ["localhost:3"]},
                "task": {"type": "worker", "index": 0},
            },
            "may only name chief and worker",
        ),
    ],
)
def test_wrong_cluster(monkeypatch, config, message):
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        distribution.get_strategy("multi_worker_mirrored", num_gpus=0)


@pytest.mark.parametrize(
    ("jobs", "task_type", "task_id", "chief"),
    [
        (["worker"], "worker", 0, True),
        (["worker"], "worker", 1, False),
        (["chief", "worker"], "chief", 0, True),
        (["chief", "worker"], "worker", 0, False),
    ],
)
def test_chief(jobs, task_type, task_id, chief):
    class Strategy:
        cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: ["a:1", "b:1"] for job in jobs}),
            task_type=task_type,
            task_id=task_id,
        )

    assert distribution.is_chief(Strategy()) is chief


@pytest.mark.parametrize("size", [-2, 0, 3])
def test_batch_is_shared_out_evenly(size):
    class Strategy:
        num_replicas_in_sync = 2

    with pytest.raises(ValueError, match="multiple of the 2 device"):
        distribution.replica_batch_size(size, Strategy())
    assert distribution.replica_batch_size(6, Strategy()) == 3


def test_virtual_cpus_and_what_comes_too_late():
    """Devices are settled once in a process, so this takes another one."""
    code = """
from tfcompress import distribution as d
strategy = d.get_strategy(num_gpus=0, virtual_cpus=2)
assert strategy.num_replicas_in_sync == 2
d.check_same_everywhere(strategy, 5, "never raised")
for name in ("one_device", "off"):
    try:
        d.get_strategy(name, num_gpus=0, virtual_cpus=2)
    except ValueError as error:
        assert "runs on one device" in str(error), error
    else:
        raise SystemExit(f"{name} ran on two devices")
try:
    d.get_strategy("mirrored", num_gpus=0, virtual_cpus=3)
except ValueError as error:
    assert "must be chosen before" in str(error), error
else:
    raise SystemExit("the devices changed")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
