"""A model as one list of steps, nested models laid open.

`run` of this package goes through a model call by call; what looks at several
tensors at once, or at two models side by side, needs the whole list, with the
tensors between the steps by number.
"""

import dataclasses
import functools

import keras

from tfcompress.graph.traversal import input_specs, is_graph, run, walk


@dataclasses.dataclass(frozen=True)
class Ref:
    """Stands for a tensor, by its number, among the arguments of a step."""

    number: int


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of a layer or of an operation.

    Attributes:
        path: as by `walk`.
        operation: the layer or operation.
        args, kwargs: what it is called with; a `Ref` for each tensor.
        inputs: numbers of these tensors, in order.
        outputs: numbers of the tensors that it returns.
        structure: its outputs, a `Ref` for each tensor.
    """

    path: str
    operation: keras.Operation
    args: tuple
    kwargs: dict
    inputs: tuple
    outputs: tuple
    structure: object

    def call(self, operation, values):
        """What an operation gives for the arguments of this step.

        Args:
            operation: that of this step, or what stands in its place.
            values: mapping from number to tensor; the outputs are added.
        """
        args, kwargs = keras.tree.map_structure(
            lambda x: values[x.number] if isinstance(x, Ref) else x,
            (self.args, self.kwargs),
        )
        if getattr(operation, "_call_has_training_arg", False):
            kwargs["training"] = False
        found = keras.tree.flatten(operation(*args, **kwargs))
        values.update(zip(self.outputs, found, strict=True))


@dataclasses.dataclass(frozen=True)
class Dataflow:
    """The steps of a model.

    Attributes:
        steps: tuple of `Step`, each behind those it needs. Of several tensors
            that meet, the one with the shorter history is computed first: a
            shortcut is there before the last layer of the branch around it.
        inputs: numbers of the tensors that the model is given.
        outputs: numbers of the tensors that it returns.
        shapes: dictionary from number to the shape of a tensor.
    """

    steps: tuple
    inputs: tuple
    outputs: tuple
    shapes: dict

    @classmethod
    def of(cls, model):
        """The steps of a functional or Sequential model."""
        paths = {id(layer): path for path, layer in walk(model)}
        numbers, kept, steps = {}, [], []

        def number(tensor):
            # Kept, so that no other tensor gets its id.
            kept.append(tensor)
            return numbers.setdefault(id(tensor), len(numbers))

        def ref(x):
            return Ref(number(x)) if isinstance(x, keras.KerasTensor) else x

        def visit(prefix, operation, *args, **kwargs):
            path = paths.get(id(operation), prefix + operation.name)
            if is_graph(operation):
                inner = args[0] if args else kwargs["inputs"]
                return run(
                    operation, inner, functools.partial(visit, path + "/")
                )
            outputs = operation.compute_output_spec(*args, **kwargs)
            given = keras.tree.map_structure(ref, (args, kwargs))
            structure = keras.tree.map_structure(ref, outputs)
            steps.append(
                Step(
                    path,
                    operation,
                    *given,
                    _numbers(given),
                    _numbers(structure),
                    structure,
                )
            )
            return outputs

        specs = input_specs(model)
        inputs = tuple(number(x) for x in specs)
        found = run(model, specs, functools.partial(visit, ""))
        outputs = tuple(number(x) for x in keras.tree.flatten(found))
        shapes = {numbers[id(x)]: tuple(x.shape) for x in kept}
        return cls(_ordered(steps, outputs), inputs, outputs, shapes)

    def count(self, path):
        """How often the layer of a path is called."""
        return sum(step.path == path for step in self.steps)

    @functools.cached_property
    def consumers(self):
        """Dictionary from the number of a tensor to the steps it goes to."""
        found = {}
        for step in self.steps:
            for number in dict.fromkeys(step.inputs):
                found.setdefault(number, []).append(step)
        return found

    @functools.cached_property
    def last_uses(self):
        """Dictionary from a step's position to tensors not needed after it."""
        last = {}
        for position, step in enumerate(self.steps):
            last.update(dict.fromkeys((*step.inputs, *step.outputs), position))
        found = {}
        for number, position in last.items():
            if number not in self.outputs:
                found.setdefault(position, []).append(number)
        return found


def _numbers(structure):
    return tuple(
        x.number for x in keras.tree.flatten(structure) if isinstance(x, Ref)
    )


def _ordered(steps, outputs):
    """Steps in depth-first order from the outputs, short histories first."""
    producers = {n: i for i, step in enumerate(steps) for n in step.outputs}
    parents = [
        [producers[n] for n in dict.fromkeys(step.inputs) if n in producers]
        for step in steps
    ]
    ancestors = []
    for own in parents:
        ancestors.append(set(own).union(*(ancestors[p] for p in own)))
    done, order = set(), []
    wanted = [producers[n] for n in reversed(outputs) if n in producers]
    # A stack, since networks are deeper than Python's recursion.
    stack = wanted
    while stack:
        i = stack[-1]
        missing = [p for p in parents[i] if p not in done]
        if missing:
            stack.append(min(missing, key=lambda p: len(ancestors[p])))
            continue
        stack.pop()
        if i not in done:
            done.add(i)
            order.append(steps[i])
    return tuple(order)
