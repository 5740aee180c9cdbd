"""Plans: which layers of a model are stored how."""

import collections.abc
import dataclasses
import math

from tfcompress import decompositions, files, plan_file
from tfcompress.names import hint
from tfcompress.tables import percent, table


@dataclasses.dataclass(frozen=True)
class Totals:
    """What a plan knows of the whole model.

    Attributes:
        name: of the model.
        params: number of its parameters.
        macs: its multiply-adds per example, None if its input sizes are open.
    """

    name: str
    params: int
    macs: int | None


class Plan(collections.abc.MutableMapping):
    """A mapping from the path of a layer to its `Decomposition`.

    Edit it by hand like a dictionary: `plan[path] = decomposition` compresses
    a layer so, `del plan[path]` leaves it alone. It holds all it needs to be
    printed, so that a plan that was loaded needs no model.

    Args:
        totals: `Totals` of the model.
        sites: dictionary from path to `Site`, of every layer that can be
            compressed, in the order of the model.
        skipped: dictionary from path to the reason why a layer is left alone.

    Attributes:
        totals, sites, skipped: the arguments.
        remark: a sentence about how it was made, or None; a file does not
            keep it.
    """

    def __init__(self, totals, sites, skipped=()):
        self.totals = totals
        self.sites = dict(sites)
        self.skipped = dict(skipped)
        self.remark = None
        self._chosen = {}

    def __getitem__(self, path):
        return self._chosen[path]

    def __setitem__(self, path, decomposition):
        if path not in self.sites:
            reason = self.skipped.get(path)
            raise ValueError(
                f"The layer {path!r} cannot be compressed: {reason}"
                if reason
                else f"The plan knows no layer {path!r}."
                f"{hint(path, self.sites)}"
            )
        if not isinstance(decomposition, decompositions.Decomposition):
            raise TypeError(
                f"The layer {path!r} must be given a Decomposition. "
                f"Received: {decomposition!r}"
            )
        site = self.sites[path]
        try:
            site.check(decomposition)
        except ValueError as error:
            raise ValueError(f"The layer {path!r}: {error}") from None
        if (
            decomposition.num_params >= site.num_params
            or decomposition.num_bytes >= site.num_bytes
        ):
            raise ValueError(
                f"The layer {path!r} would not get smaller: its kernel has "
                f"{site.num_params:,} parameters in {site.num_bytes:,} bytes. "
                f"Choose lower ranks. Received: {decomposition} of "
                f"{decomposition.num_params:,} in {decomposition.num_bytes:,}"
            )
        self._chosen[path] = decomposition
        self.skipped.pop(path, None)

    def __delitem__(self, path):
        del self._chosen[path]
        self.skipped[path] = "by hand"

    def __iter__(self):
        return (path for path in self.sites if path in self._chosen)

    def __len__(self):
        return len(self._chosen)

    @property
    def params_before(self):
        """Parameters of the kernels that the plan compresses."""
        return sum(self.sites[path].num_params for path in self)

    @property
    def params_after(self):
        """Parameters of the factors that take their place.

        Constants beside them, such as a permutation, are none; the bytes
        count these too.
        """
        return sum(decomposition.num_params for decomposition in self.values())

    @property
    def bytes_before(self):
        """Size of the kernels that the plan compresses, in float32."""
        return sum(self.sites[path].num_bytes for path in self)

    @property
    def bytes_after(self):
        """Size in a file of what takes their place, see `Decomposition`."""
        return sum(decomposition.num_bytes for decomposition in self.values())

    @property
    def kept_share(self):
        """Parameters kept of the kernels that the plan compresses."""
        return self.params_after / self.params_before if self else math.nan

    @property
    def macs_before(self):
        """Multiply-adds per example of the layers that it compresses."""
        return _sum(self.sites[path].num_macs for path in self)

    @property
    def macs_after(self):
        """Multiply-adds per example of what takes their place."""
        return _sum(self.sites[path].macs(d) for path, d in self.items())

    def __str__(self):
        parts = [
            table(
                (
                    "layer",
                    "kernel",
                    "method",
                    "ranks",
                    "params",
                    "after",
                    "kept",
                    "MACs",
                    "after",
                    "bytes kept",
                    "implementation",
                ),
                [self._row(path) for path in self],
            ),
            self._summary(),
        ]
        if self.skipped:
            parts.append(table(("left alone", "reason"), self.skipped.items()))
        return "\n\n".join(parts) + "\n"

    def _row(self, path):
        site, decomposition = self.sites[path], self[path]
        return (
            path,
            " x ".join(map(str, site.kernel)),
            decompositions.name_of(decomposition),
            ", ".join(map(str, decomposition.ranks)),
            site.num_params,
            decomposition.num_params,
            percent(decomposition.num_params, site.num_params),
            site.num_macs,
            site.macs(decomposition),
            percent(decomposition.num_bytes, site.num_bytes),
            site.implementation(decomposition),
        )

    def _summary(self):
        params = self.params_before, self.params_after
        macs = self.macs_before, self.macs_after
        constants = self._constants_before, self._constants_after
        totals = self.totals
        whole_macs = None
        if totals.macs is not None and None not in macs:
            whole_macs = totals.macs - macs[0] + macs[1]
        # Keras counts integers beside the factors as parameters too.
        change = sum(after - before for before, after in (params, constants))
        open_cells = ("",) * 3
        rows = [
            (
                f"compressed kernels ({len(self)})",
                *_before_after(*params),
                *_before_after(*macs),
                *_before_after(self.bytes_before, self.bytes_after),
            )
        ]
        if any(constants):
            integers = _before_after(*constants)
            rows.append(("integers beside them", *integers, *open_cells * 2))
        rows.append(
            (
                f"model {totals.name}",
                *_before_after(totals.params, totals.params + change),
                *_before_after(totals.macs, whole_macs),
                *open_cells,
            )
        )
        columns = (
            *("", "params", "after", "kept"),
            *("MACs", "after", "kept"),
            *("bytes", "after", "kept"),
        )
        return table(columns, rows)

    @property
    def _constants_before(self):
        return sum(self.sites[path].num_constants for path in self)

    @property
    def _constants_after(self):
        return sum(
            decomposition.num_constants for decomposition in self.values()
        )

    def to_yaml(self, path):
        """Writes the plan to a file, whole or not at all."""
        files.write_text(path, plan_file.dump(self))

    @classmethod
    def from_yaml(cls, path):
        """The plan in a file written by `to_yaml`, perhaps edited since.

        Raises:
            ValueError: if the file is not a plan; it names the entry.
        """
        return plan_file.load(path, cls, Totals)


def _before_after(before, after):
    return before, after, percent(after, before)


def _sum(numbers):
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)
