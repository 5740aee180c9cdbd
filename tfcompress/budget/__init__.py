"""Compression to a budget: candidates for each layer, chosen all together."""

from tfcompress.budget.allocation import Allocation, allocate
from tfcompress.budget.candidates import Candidate, Candidates
from tfcompress.budget.costs import layer_costs, model_costs
from tfcompress.budget.limits import RESOURCES, Budget
from tfcompress.budget.refinement import allocate_finely, refine

__all__ = [
    "RESOURCES",
    "Allocation",
    "Budget",
    "Candidate",
    "Candidates",
    "allocate",
    "allocate_finely",
    "layer_costs",
    "model_costs",
    "refine",
]
