"""Decompositions whose factors lie on an integer grid."""

import dataclasses

import numpy as np

from tfcompress.linalg.quantization import dequantize, quantize_components


def decompose_quantized(decomposition, kernel, bits=8, rounds=3, **options):
    """Factors on a symmetric integer grid that approximate a kernel.

    Each factor has one scale per component: its entries along all other axes
    are the scale times an integer. The scale is the largest of them in size
    over `2**(bits - 1) - 1`. Training the factors moves them off the grid.

    Args:
        decomposition: a `Decomposition` that is a sum of components, such as
            `cp` and `cp4`: one index occurs in all of its factors.
        kernel: NumPy array of its `kernel_shape`.
        bits: width of the integers, from 2 to 8.
        rounds: see `linalg.quantization.quantize_components`.
        **options: settings of `decomposition.decompose`.

    Returns:
        Dictionary from factor name to a NumPy array of numbers on the grid.

    Raises:
        ValueError: if the decomposition is not a sum of components, the kernel
            is not finite, or a setting is out of range.
    """
    blocks = np.split(kernel, decomposition.groups, axis=3)
    single = dataclasses.replace(
        decomposition, kernel_shape=decomposition.block_shape, groups=1
    )
    parts = [
        _decompose_block(single, np.ascontiguousarray(b), bits, rounds, options)
        for b in blocks
    ]
    if decomposition.groups == 1:
        return parts[0]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _decompose_block(decomposition, kernel, bits, rounds, options):
    terms, output = decomposition.equation.split("->")
    terms = terms.split(",")
    component = _component(decomposition, terms)
    factors = decomposition.decompose(kernel, **options)
    sizes = {}
    for term, factor in zip(terms, factors.values(), strict=True):
        sizes.update(zip(term, factor.shape, strict=True))
    # (..., r) of each factor as a matrix (n, r), the kernel as a tensor with
    # one axis of length n per factor.
    others = [term.replace(component, "") for term in terms]
    matrices = [
        np.einsum(f"{term}->{other}{component}", factor).reshape(
            -1, sizes[component]
        )
        for term, other, factor in zip(
            terms, others, factors.values(), strict=True
        )
    ]
    tensor = kernel.reshape([sizes[axis] for axis in output])
    tensor = np.einsum(f"{output}->{''.join(others)}", tensor)
    tensor = tensor.reshape([len(matrix) for matrix in matrices])
    quantized, _ = quantize_components(tensor, matrices, bits, rounds)
    found = {}
    for name, term, other, pair in zip(
        factors, terms, others, quantized, strict=True
    ):
        value = dequantize(*pair, axis=1)
        value = value.reshape([sizes[axis] for axis in other + component])
        value = np.einsum(f"{other}{component}->{term}", value)
        found[name] = np.ascontiguousarray(value)
    return found


def _component(decomposition, terms):
    """The index that occurs in every factor."""
    common = set.intersection(*map(set, terms))
    if len(common) != 1:
        raise ValueError(
            "Only a sum of components, such as 'cp' and 'cp4', has factors on "
            f"an integer grid. Received: {decomposition}"
        )
    return common.pop()
