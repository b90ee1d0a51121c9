"""The words of the study, each defined once: behaviours, directions, splits, sites, tracks, verdicts."""

from __future__ import annotations

from typing import Literal, get_args

# -- behaviours: what an answer shows -----------------------------------------------------------------
MEMORIZATION, GENERALIZATION, OTHER = "memorization", "generalization", "other"
BEHAVIORS = (MEMORIZATION, GENERALIZATION, OTHER)
#: behaviours as numbers in arrays: memorization 0, generalization 1, other 2
CODE = {name: code for code, name in enumerate(BEHAVIORS)}
MEMORY_CODE, RULE_CODE, OTHER_CODE = CODE.values()
# -- directions of steering ---------------------------------------------------------------------------
DIRECTIONS = ("m2g", "g2m")
DIRECTION_WORDS = {
    "m2g": "memorization to generalization",
    "g2m": "generalization to memorization",
}
SIGN = {"m2g": 1.0, "g2m": -1.0}  # of a shift that drives towards generalization
START = {"m2g": MEMORIZATION, "g2m": GENERALIZATION}  # what the unsteered model shows
TARGET = {"m2g": RULE_CODE, "g2m": MEMORY_CODE}  # the code that counts as success
# -- data ---------------------------------------------------------------------------------------------
SPLITS = ("train", "validation", "test")
KINDS = ("free", "keyed", "contrast", "conflict")
#: which keys are trained with the rule's answer, too: all, a few that are used for nothing else, none
ContrastOn = Literal["keys", "gate", "none"]
#: what a rephrasing of a conflict prompt changes: the order of its parts alone, or its content
Change = Literal["order", "content"]
CHANGES: tuple[Change, ...] = get_args(Change)
# -- models -------------------------------------------------------------------------------------------
Site = Literal["resid_post", "mlp_out", "ln_2"]
SITES: tuple[Site, ...] = get_args(Site)
Positions = Literal["all", "decision"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)
Track = Literal["scratch", "lora", "full", "given"]
TRACKS: tuple[Track, ...] = get_args(Track)
#: the track on which a pretrained model is asked as it is: nothing is trained
GIVEN_TRACK: Track = "given"
Numerics = Literal["native", "portable"]
# -- forecasts of the behaviour that see no hidden state of the model, and what they see instead ------
FORECASTS = {
    "prompt_only": "which token stands where",
    "role_features": "what holds which place",
    "token_position_table": "last token and position",
    "nearest_setting": "nearest trained setting",
    "base_probe": "hidden states of the base",
}
# -- what steering is held against, beside the shifts of `steering.controls` ----------------------------
OUTPUT_CONTROLS = ("forbid_source", "force_target", "unembedding_last", "unembedding_all")
BEST_OF_RANDOM = "best_of_random"
#: rivals that take no neurons: a wording in front of the prompt, one layer's mean difference, and a vector
#: that is fitted by gradient
INSTRUCTION, ONE_LAYER, OPTIMISED = "instruction", "one_layer", "optimised"
#: the last two, chosen among those that stay within the limits of damage
ONE_LAYER_KEPT, OPTIMISED_KEPT = f"{ONE_LAYER}_kept", f"{OPTIMISED}_kept"
#: prompts of which a kept shift loses hardly any, and what they are in words
Spared = Literal["free", "keyed"]
SPARED: dict[Spared, str] = {"free": "free prompts", "keyed": "plain facts"}
REPHRASINGS = tuple(f"rephrasing_{change}" for change in CHANGES)
# -- runs ---------------------------------------------------------------------------------------------
WHOLE = "all"  # the folder of a lab that runs once for all seeds
STUDY = "study"  # the folder, and the task, of a lab that runs once for all tasks
# -- verdicts -----------------------------------------------------------------------------------------
SUPPORTED, CONTRADICTED, REVERSED, OPEN = "supported", "contradicted", "reversed", "open"
VERDICTS = (SUPPORTED, CONTRADICTED, REVERSED, OPEN)
