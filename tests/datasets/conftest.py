"""Small data in every layout, and one source for each."""

import os
import pathlib

import numpy as np
import pytest

# TensorFlow is imported where it is used: without it the test modules are
# skipped, and this file must still load.

# Records a file: uneven, as real files are.
IMAGENET_FILES = {"train": (7, 4, 9, 6, 5), "validation": (5, 8, 4)}


@pytest.fixture(scope="session")
def shared():
    """Real data beside the repository; tests that need them skip without."""
    root = pathlib.Path(__file__).resolve().parents[2]
    folder = pathlib.Path(
        os.environ.get("TFCOMPRESS_SHARED", root.parent / "shared")
    )
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data in {folder}; set TFCOMPRESS_SHARED")
    return folder


@pytest.fixture
def imagenet_dir(tmp_path):
    """ImageNet's layout; labels count 1, 2, ... through each split."""
    import small_records

    generator = np.random.default_rng(0)
    for prefix, sizes in IMAGENET_FILES.items():
        label = 0
        for number, size in enumerate(sizes):
            records = []
            for _ in range(size):
                label += 1
                height, width = generator.integers(40, 60, 2)
                records.append(
                    small_records.example(
                        small_records.jpeg(generator, height, width), label
                    )
                )
            name = f"{prefix}-{number:05d}-of-{len(sizes):05d}"
            small_records.write(tmp_path / name, records)
    return tmp_path


@pytest.fixture
def folders_dir(tmp_path):
    """Image folders of four classes, JPEG and PNG."""
    import small_folders

    small_folders.write(tmp_path)
    return tmp_path


@pytest.fixture
def cifar10_dir(tmp_path):
    """CIFAR-10's layout; the first pixel of an image is its number."""

    from tfcompress.datasets import cifar10

    def split(size, seed):
        generator = np.random.default_rng(seed)
        images = generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(size)
        return images, np.arange(size) % 10

    cifar10.write_binary(str(tmp_path), *split(47, 0), *split(23, 1))
    return tmp_path


MEMORY_SOURCES = ["cifar10", "digits", "synthetic"]


@pytest.fixture(params=[*MEMORY_SOURCES, "folders", "imagenet"])
def any_source(request):
    """Every kind of source, small."""
    return make(request)


@pytest.fixture(params=[*MEMORY_SOURCES, "folders"])
def permuted_source(request):
    """The sources that can pick any image at any time."""
    return make(request)


def make(request):
    from tfcompress import datasets

    get = datasets.get(request.param)
    match request.param:
        case "synthetic":
            return get(num_train=47, num_test=23)
        case "digits":
            return get(str(request.getfixturevalue("tmp_path")))
        case "cifar10":
            return get(str(request.getfixturevalue("cifar10_dir")))
        case "folders":
            folder = request.getfixturevalue("folders_dir")
            return get(str(folder), resize=36, crop=32)
        case "imagenet":
            folder = request.getfixturevalue("imagenet_dir")
            return get(str(folder), image_size=32)
