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
#: what scales, gates or prompts, then one-way edits, then what is no method: a control and a ceiling
_EDITS = (
    liref.METHOD,
    iti.METHOD,
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
    ipr.CONTROL,
    patching.METHOD,
)
METHODS: dict[str, Method] = {method.name: method for method in (*_ALL, *_EDITS)}
