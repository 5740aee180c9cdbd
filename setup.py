"""Packaging of tfcompress; the version is read from the package."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (ROOT / "tfcompress" / "__init__.py").read_text(),
    re.MULTILINE,
).group(1)

# What the programs need besides the core: data, TensorBoard, pictures.
PROGRAMS = [
    "absl-py",
    "importlib_resources",  # undeclared need of tensorflow-datasets 4.9
    "matplotlib",  # the picture of a run of MUSCO
    "scikit-learn",  # the bundled digits
    "tensorboard",
    "tensorflow-datasets",
]

setup(
    name="tfcompress",
    version=VERSION,
    description="Tensor-decomposition compression of Keras networks",
    packages=find_packages(include=["tfcompress*", "official_resnet*"]),
    python_requires=">=3.10",
    install_requires=["keras>=3.8", "numpy", "scipy", "pyyaml"],
    extras_require={
        # One of these: the wheels overwrite each other when both are present.
        "cpu": ["tensorflow-cpu>=2.18", *PROGRAMS],
        "gpu": ["tensorflow[and-cuda]>=2.18", *PROGRAMS],
        "jax": ["jax"],
        # To read and write state dicts of PyTorch.
        "torch": ["torch", "safetensors"],
        "test": ["pytest", "pytest-xdist", "ruff==0.17.5", "tensorly"],
    },
)
