"""The one list of methods, in the order of the table."""

from __future__ import annotations

from memgen.rivals import (
    austeer,
    cna,
    fine_tuning,
    gated,
    ipr,
    iti,
    kfac,
    knowledge_neurons,
    liref,
    neuron_masks,
    patching,
    soft_prompt,
    subnet,
)
from memgen.rivals.caa import CAA, CAA_ALL
from memgen.rivals.method import Method
from memgen.rivals.nmd import NMD
from memgen.rivals.nulls import RANDOM_DIRECTIONS, UNTOUCHED
from memgen.rivals.optimised import OPTIMISED, OPTIMISED_RETAINED
from memgen.rivals.pca import PCA_CENTER, PCA_DIFF
from memgen.rivals.probe_direction import PROBE_DIRECTION

#: the row that all others are compared with
PAPER = NMD.name
#: in the order of the table: what adds a vector; what scales, gates or prompts; one-way edits; what is no
#: method, but a null, a control or a ceiling
_ALL = (
    NMD,
    CAA,
    CAA_ALL,
    PROBE_DIRECTION,
    PCA_CENTER,
    PCA_DIFF,
    OPTIMISED,
    OPTIMISED_RETAINED,
    iti.METHOD,
    liref.METHOD,
    cna.METHOD,
    austeer.METHOD,
    gated.DMS,
    gated.GSS,
    soft_prompt.METHOD,
    kfac.KFAC,
    kfac.KFAC_FREE,
    kfac.SVD,
    subnet.METHOD,
    ipr.METHOD,
    knowledge_neurons.METHOD,
    neuron_masks.SLIMMING,
    neuron_masks.HARD_CONCRETE,
    fine_tuning.UNLEARNING,
    fine_tuning.RULE,
    fine_tuning.RULE_KEPT,
    UNTOUCHED,
    RANDOM_DIRECTIONS,
    ipr.CONTROL,
    patching.METHOD,
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
