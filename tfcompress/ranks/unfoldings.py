"""Which matrix the rank of each bond is the rank of, read off the equation.

The factors of a decomposition are the nodes of a network, the letters that the
equation sums over are its bonds, one for each of `rank_names` in the order in
which they appear. A bond that alone holds two parts together bounds the rank
of one matrix, an unfolding of the kernel: its rows run along the letters of
the kernel in one part, its columns along those in the other. A bond of a loop,
as in a tensor ring, or of more than two factors, as in CP, bounds none.
"""

import dataclasses
import functools

import numpy as np

from tfcompress import linalg


@dataclasses.dataclass(frozen=True)
class Bond:
    """A bond that splits the network of the factors in two.

    Attributes:
        letter: its letter in the equation.
        sides: for either part, its factors as positions in the equation.
        rows: letters of the kernel in the first part.
        cols: letters of the kernel in the second part.
    """

    letter: str
    sides: tuple
    rows: str
    cols: str


@functools.cache
def bonds(cls):
    """The bonds of a decomposition.

    Args:
        cls: a `Decomposition` class.

    Returns:
        Tuple of one `Bond` per rank, None for one that bounds no unfolding.
    """
    if cls.equation is None:
        return (None,) * len(cls.rank_names)
    terms, output = _parse(cls)
    summed = dict.fromkeys(x for x in "".join(terms) if x not in output)
    return tuple(_bond(letter, terms, output) for letter in summed)


def _parse(cls):
    terms, output = cls.equation.split("->")
    return terms.split(","), output


def _bond(letter, terms, output):
    ends = [i for i, term in enumerate(terms) if letter in term]
    if len(ends) != 2:
        return None
    sides = tuple(_reachable(end, terms, letter) for end in ends)
    if sides[0] & sides[1]:
        return None
    rows, cols = (
        "".join(x for x in output if any(x in terms[i] for i in side))
        for side in sides
    )
    return Bond(letter, sides, rows, cols)


def _reachable(start, terms, removed):
    """The factors that hang together with one when a bond is removed."""
    found, new = set(), {start}
    while new:
        found |= new
        letters = {x for i in found for x in terms[i]} - {removed}
        new = {i for i, term in enumerate(terms) if letters & set(term)}
        new -= found
    return frozenset(found)


def letter_sizes(decomposition):
    """Dictionary from each letter of the equation to its size."""
    terms, _ = _parse(type(decomposition))
    shapes = decomposition.block_factor_shapes.values()
    return {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }


def unfoldings(cls, kernel):
    """The matrices whose ranks the ranks of a decomposition are.

    Args:
        cls: a `Decomposition` class.
        kernel: array of shape (h, w, in, out), of one group.

    Returns:
        List of one matrix per rank, None for a bond that bounds no unfolding.
    """
    ones = cls(kernel.shape, (1,) * len(cls.rank_names))
    sizes = letter_sizes(ones)
    _, output = _parse(cls)
    tensor = kernel.reshape([sizes[letter] for letter in output])

    def matrix(bond):
        axes = [output.index(letter) for letter in bond.rows + bond.cols]
        rows = int(np.prod([sizes[letter] for letter in bond.rows]))
        return tensor.transpose(axes).reshape(rows, -1)

    return [None if bond is None else matrix(bond) for bond in bonds(cls)]


def spectra(cls, kernel, groups=1):
    """Singular values of the unfoldings, of each group.

    Args:
        cls: a `Decomposition` class.
        kernel: array of shape (h, w, in / groups, out).
        groups: number of channel groups.

    Returns:
        List of one array per rank, of shape (groups, number of values) and
        descending along the last axis; None for a bond without unfolding.
    """
    blocks = np.split(kernel, groups, axis=3)
    per_group = [unfoldings(cls, block) for block in blocks]
    return [
        None
        if matrices[0] is None
        else np.stack([linalg.singular_values(matrix) for matrix in matrices])
        for matrices in zip(*per_group, strict=True)
    ]


def core_shapes(decomposition):
    """Shapes of the unfoldings of what is left to compress in a network.

    A kernel stored at some ranks lies in the leading singular spaces of its
    unfoldings. Seen from a bond, every part of the network beyond another bond
    counts as much as the rank of that. The factor at the end of the bond, or
    else the smaller side, counts as the rank of the bond itself: of Tucker this
    leaves the core, of a matrix of rank r the r rows of its longer factor.

    Args:
        decomposition: a `Decomposition` of a class all of whose bonds have an
            unfolding, so that its network is a tree.

    Returns:
        List of one shape (rank, columns) per rank.
    """
    terms, output = _parse(type(decomposition))
    sizes = letter_sizes(decomposition)

    def extent(start, entry):
        """Size of the side of bond `entry` that begins with a factor."""
        size = 1
        for letter in terms[start].replace(entry, ""):
            if letter in output:
                size *= sizes[letter]
                continue
            (beyond,) = (
                i
                for i, term in enumerate(terms)
                if letter in term and i != start
            )
            size *= min(sizes[letter], extent(beyond, letter))
        return size

    def shape(bond):
        ends = [i for i, term in enumerate(terms) if bond.letter in term]
        sides = [
            (len(side) > 1, extent(end, bond.letter))
            for end, side in zip(ends, bond.sides, strict=True)
        ]
        _, columns = max(sides)
        return sizes[bond.letter], columns

    return [shape(bond) for bond in bonds(type(decomposition))]
