"""Ranges for every input: what norms leave possible, whatever comes in.

Behind a layer or root-mean-square normalisation a vector lies in a ball of radius √d, scaled; every
row of weights that reads it is bounded by its norm. One pass over the weights gives the range of
every activation, for all inputs at once.
"""

from gamma.propagate.ranges.sets import Known as Known
from gamma.propagate.ranges.sets import Storage as Storage
from gamma.propagate.ranges.walk import FORMATS as FORMATS
from gamma.propagate.ranges.walk import REAL as REAL
from gamma.propagate.ranges.walk import range_walk as range_walk
