"""Models as graphs: their layers, calls, copies and stages.

The only place that knows how Keras stores a graph of layers; the tests of this
package pin what it relies on.
"""

from tfcompress.graph.cloning import clone, remake
from tfcompress.graph.functional import as_functional
from tfcompress.graph.stages import find_stages, stage_layers
from tfcompress.graph.traversal import (
    Call,
    has_known_sizes,
    input_specs,
    is_graph,
    names,
    run,
    trace,
    walk,
)

__all__ = [
    "Call",
    "as_functional",
    "clone",
    "find_stages",
    "has_known_sizes",
    "input_specs",
    "is_graph",
    "names",
    "remake",
    "run",
    "stage_layers",
    "trace",
    "walk",
]
