"""The one list of methods, in the order of the table."""

from __future__ import annotations

from memgen.rivals.caa import CAA, CAA_ALL
from memgen.rivals.method import Method
from memgen.rivals.nmd import NMD
from memgen.rivals.nulls import RANDOM_DIRECTIONS, UNTOUCHED
from memgen.rivals.pca import PCA_CENTER, PCA_DIFF
from memgen.rivals.probe_direction import PROBE_DIRECTION

#: the row that all others are compared with
PAPER = NMD.name
_ALL = (
    NMD,
    CAA,
    CAA_ALL,
    PROBE_DIRECTION,
    PCA_CENTER,
    PCA_DIFF,
    RANDOM_DIRECTIONS,
    UNTOUCHED,
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
