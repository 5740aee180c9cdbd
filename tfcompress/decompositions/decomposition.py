"""What every decomposition knows about the kernel that it replaces."""

import abc
import dataclasses
import functools
import inspect
import itertools
import math
import typing

import numpy as np
from keras import ops

from tfcompress import einsum, packing
from tfcompress.convolution import merge_groups
from tfcompress.names import hint

# Of a parameter in a file.
FLOAT_BYTES = 4


def options_of(solver):
    """Names of the settings of a function of `linalg`: those with a default."""
    parameters = inspect.signature(solver).parameters.values()
    return tuple(p.name for p in parameters if p.default is not p.empty)


@dataclasses.dataclass(frozen=True)
class Decomposition(abc.ABC):
    """One kernel stored as small factors.

    A frozen value: it says how a kernel of `kernel_shape` is stored at the
    given `ranks`, and holds no weights. The layer that uses it owns them. The
    kernel of a dense layer is that of a 1 x 1 convolution, the kernel of a
    one-dimensional convolution is `(k, 1, in, out)`.

    A grouped convolution is so many independent kernels of equal shape. Each
    is decomposed for itself; every factor then has a leading group axis.

    Args:
        kernel_shape: `(height, width, in / groups, out)`.
        ranks: one positive integer per bond.
        groups: number of channel groups.

    Raises:
        ValueError: if `groups` does not divide the outputs, the number of
            ranks is wrong, or a rank is larger than the unfolding it belongs
            to can hold.
    """

    kernel_shape: tuple
    ranks: tuple
    groups: int = 1

    # The einsum of the factors, in the order of `factor_shapes`; None where
    # the kernel is no such sum.
    equation: typing.ClassVar[str | None]
    # One name per rank, for messages and tables.
    rank_names: typing.ClassVar[tuple]
    # Those of them that no budget raises.
    fixed_ranks: typing.ClassVar[tuple] = ()
    # Whether the leading parts of its factors are of use at lower ranks.
    nested: typing.ClassVar[bool] = True
    # Names of the settings of its algorithm, which `decompose` takes.
    options: typing.ClassVar[tuple] = ()

    def __post_init__(self):
        object.__setattr__(self, "kernel_shape", tuple(self.kernel_shape))
        object.__setattr__(self, "ranks", tuple(int(r) for r in self.ranks))
        name, expected = type(self).__name__, len(self.rank_names)
        if len(self.ranks) != expected:
            raise ValueError(
                f"`ranks` of {name} must be {expected} integers "
                f"({', '.join(self.rank_names)}). Received: {self.ranks}"
            )
        if self.groups < 1 or self.kernel_shape[3] % self.groups:
            raise ValueError(
                "`groups` must be a positive integer that divides the "
                f"{self.kernel_shape[3]} output channels of the kernel. "
                f"Received: {self.groups}"
            )
        feasible = self.clip_ranks(self.block_shape, self.ranks)
        if min(self.ranks) < 1 or self.ranks != feasible:
            raise ValueError(
                f"`ranks` are not feasible for a {name} of a kernel of shape "
                f"{self.kernel_shape}. Received: {self.ranks} "
                f"({', '.join(self.rank_names)}), the nearest feasible are "
                f"{feasible}"
            )

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        """The class that stands in for this one on such a kernel.

        Methods that only split the image axes off have nothing to do where
        there are none; they name another class for 1 x 1 and dense kernels.
        """
        return cls

    @classmethod
    @abc.abstractmethod
    def clip_ranks(cls, block_shape, ranks):
        """`ranks`, each at least 1 and at most what is of use.

        The law: with ranks clipped from above the largest, `reconstruct` of
        `decompose` gives the kernel back, and clipping twice changes nothing.
        """

    @classmethod
    def max_ranks(cls, block_shape):
        """The smallest ranks at which every kernel is stored exactly."""
        return cls.clip_ranks(
            block_shape, (math.prod(block_shape),) * len(cls.rank_names)
        )

    @classmethod
    def rank_weights(cls, block_shape):
        """How large the ranks are relative to each other under a budget."""
        return cls.max_ranks(block_shape)

    @classmethod
    def scaled_ranks(cls, block_shape, scale):
        """`scale` times `rank_weights`, rounded down, as far as of use."""
        # A product such as 3 * (7 / 3) must still reach 7.
        ranks = tuple(
            max(1, math.floor(weight * scale + 1e-9))
            for weight in cls.rank_weights(block_shape)
        )
        return cls.clip_ranks(block_shape, ranks)

    @classmethod
    def uniform_ranks(cls, block_shape, rank):
        """All ranks as large as is of use up to `rank`."""
        return cls.clip_ranks(block_shape, (rank,) * len(cls.rank_names))

    @property
    def block_shape(self):
        """Shape of the kernel of one group, `(h, w, in, out)`."""
        h, w, c, n = self.kernel_shape
        return h, w, c, n // self.groups

    @property
    @abc.abstractmethod
    def block_factor_shapes(self):
        """Dictionary from name to shape of one group's factors."""

    @property
    def factor_shapes(self):
        """Dictionary from factor name to shape, in the order of `equation`."""
        return self._of_all_groups(self.block_factor_shapes)

    @property
    def block_constant_shapes(self):
        """As `block_factor_shapes`, of integers that are not trained."""
        return {}

    @property
    def constant_limits(self):
        """Dictionary from constant name to a number above all its values."""
        return {}

    @property
    def constant_shapes(self):
        """Dictionary from constant name to shape."""
        return self._of_all_groups(self.block_constant_shapes)

    def _of_all_groups(self, shapes):
        lead = (self.groups,) if self.groups > 1 else ()
        return {name: (*lead, *shape) for name, shape in shapes.items()}

    @property
    def num_params(self):
        """Number of parameters of all factors; constants are none."""
        return sum(math.prod(shape) for shape in self.factor_shapes.values())

    @property
    def num_constants(self):
        """Number of entries of all constants."""
        return sum(math.prod(shape) for shape in self.constant_shapes.values())

    @property
    def num_bytes(self):
        """Size in a file: factors in float32, constants packed."""
        return FLOAT_BYTES * self.num_params + self.constant_bytes

    @property
    def constant_bytes(self):
        """Size of the constants in a file, each in as few bits as it needs."""
        return sum(self.constant_sizes.values())

    @property
    def constant_sizes(self):
        """Dictionary from constant name to its size in a file, in bytes."""
        limits = self.constant_limits
        return {
            name: packing.packed_size(math.prod(shape), limits[name])
            for name, shape in self.constant_shapes.items()
        }

    def initial_constants(self, rng):
        """NumPy constants of a kernel that is drawn anew, by name.

        Args:
            rng: a NumPy generator.
        """
        return {}

    @property
    def summands(self):
        """How many products of factors an element of the kernel sums up."""
        terms, output = self.equation.split("->")
        sizes = {
            letter: size
            for term, shape in zip(
                terms.split(","),
                self.block_factor_shapes.values(),
                strict=True,
            )
            for letter, size in zip(term, shape, strict=True)
        }
        return math.prod(n for x, n in sizes.items() if x not in output)

    @property
    def kept_share(self):
        """Parameters relative to the dense kernel."""
        return self.num_params / math.prod(self.kernel_shape)

    def decompose(self, kernel, **options):
        """Factors that approximate a kernel.

        Args:
            kernel: NumPy array of `kernel_shape`.
            **options: settings of the algorithm, some of `options`, such as
                the `sweeps` of `linalg.cp`.

        Returns:
            Dictionary from the names of factors, and of constants, to NumPy
            arrays of `factor_shapes` and `constant_shapes`.

        Raises:
            TypeError: if an option is not one of `options`.
        """
        for option in options:
            if option not in self.options:
                raise TypeError(
                    f"`{option}` is no option of {type(self).__name__}, which "
                    f"takes {', '.join(self.options) or 'none'}. Received: "
                    f"{option}={options[option]!r}."
                    f"{hint(option, self.options)}"
                )
        if tuple(kernel.shape) != self.kernel_shape:
            raise ValueError(
                f"`kernel` must have the shape {self.kernel_shape}. "
                f"Received: {tuple(kernel.shape)}"
            )
        h, w, c, n = self.block_shape
        blocks = kernel.reshape(h, w, c, self.groups, n)
        parts = [
            self.decompose_block(
                np.ascontiguousarray(blocks[..., g, :]), **options
            )
            for g in range(self.groups)
        ]
        names = (*self.factor_shapes, *self.constant_shapes)
        if self.groups == 1:
            return {name: parts[0][name] for name in names}
        return {name: np.stack([p[name] for p in parts]) for name in names}

    @abc.abstractmethod
    def decompose_block(self, kernel, **options):
        """NumPy factors and constants of the NumPy kernel of one group."""

    @functools.cached_property
    def _rebuild_plan(self):
        terms, output = self.equation.split("->")
        if self.groups > 1:
            terms = ",".join("G" + term for term in terms.split(","))
            output = "G" + output
        return einsum.plan(
            f"{terms}->{output}", tuple(self.factor_shapes.values())
        )

    @property
    def rebuild_macs(self):
        """Multiply-adds of `reconstruct`."""
        return self._rebuild_plan.macs

    def reconstruct(self, factors):
        """The kernel, of `kernel_shape`, that `factors` stand for.

        Args:
            factors: dictionary from the names of factors, and of constants, to
                array; NumPy arrays give a NumPy array, tensors and variables a
                tensor.
        """
        values = [factors[name] for name in self.factor_shapes]
        if all(isinstance(value, np.ndarray) for value in values):
            xp, product = np, functools.partial(np.einsum, optimize=True)
        else:
            xp, product = ops, ops.einsum
        kernel = self._rebuild_plan.run(values, product)
        if self.groups == 1:
            return xp.reshape(kernel, self.kernel_shape)
        blocks = xp.reshape(kernel, (self.groups, *self.block_shape))
        return merge_groups(blocks, xp)

    def adjoint(self, kernel, factors, name):
        """The derivative of <kernel, reconstruct(factors)> by one factor.

        The kernel is linear in each factor; this is the transpose of that map,
        which least squares need.

        Args:
            kernel: NumPy array of `kernel_shape`, of one group.
            factors: dictionary from the names of factors, and of constants, to
                NumPy arrays; that of `name` is not looked at.
            name: of a factor.

        Returns:
            NumPy array of the shape of that factor.
        """
        terms, output = self.equation.split("->")
        terms = dict(zip(self.factor_shapes, terms.split(","), strict=True))
        own = terms.pop(name)
        sizes = [self.factor_shapes[n] for n in terms]
        letters = dict(
            zip("".join(terms.values()), itertools.chain(*sizes), strict=True)
        )
        letters.update(zip(own, self.factor_shapes[name], strict=True))
        kernel = kernel.reshape([letters[x] for x in output])
        plan = einsum.plan(
            ",".join([output, *terms.values()]) + "->" + own,
            (kernel.shape, *sizes),
        )
        operands = [kernel, *(factors[n] for n in terms)]
        return plan.run(operands, functools.partial(np.einsum, optimize=True))

    def apply(self, primitives, x, factors):
        """Convolves images with the factors, one after the other.

        The law: the result equals `primitives.geometry.dense` of `x` with the
        reconstructed kernel.

        Args:
            primitives: an interpreter of the primitives, such as a
                `Convolution`.
            x: what that interpreter takes for images.
            factors: dictionary from factor name to what it takes for factors.
        """
        geometry = primitives.geometry
        steps = geometry.idle_strides(self.kernel_shape[:2])
        if steps != (1, 1):
            rest = tuple(
                s // t for s, t in zip(geometry.strides, steps, strict=True)
            )
            x = primitives.subsample(x, steps)
            primitives = primitives.at(
                dataclasses.replace(geometry, strides=rest)
            )
        return self.contract(primitives, x, factors)

    @abc.abstractmethod
    def contract(self, conv, x, factors):
        """The chain of primitives that `apply` runs."""
