"""The walks over a network: interval propagation and linear relaxation, batched over boxes."""

from gamma.propagate.api import Analysis, bounds, enclose, lower_bounds
from gamma.propagate.specification import Specification
from gamma.propagate.walks import METHODS

__all__ = ["METHODS", "Analysis", "Specification", "bounds", "enclose", "lower_bounds"]
