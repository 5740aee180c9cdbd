"""What layers and models take of each resource that shapes tell of."""

from tfcompress import graph
from tfcompress.stats import model_stats, stored_bytes


def layer_costs(site, decomposition=None):
    """What a kernel costs, as it is stored or as a decomposition.

    Args:
        site: `Site` of the layer.
        decomposition: None for the layer as it is.

    Returns:
        Dictionary with `params`, of the kernel or its factors, `bytes`, and
        `macs` unless the sizes of the images are open.
    """
    if decomposition is None:
        source, macs = site, site.num_macs
    else:
        source, macs = decomposition, site.macs(decomposition)
    return _known(macs, source.num_params, source.num_bytes)


def model_costs(model):
    """As `layer_costs`, of all of a functional or Sequential model."""
    macs = model_stats(model).macs if graph.has_known_sizes(model) else None
    return _known(macs, model.count_params(), stored_bytes(model))


def _known(macs, params, size):
    costs = {} if macs is None else {"macs": macs}
    return costs | {"params": params, "bytes": size}
