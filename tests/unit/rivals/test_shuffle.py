"""Where a coin says which behaviour is called which, every method of the list must sink to the nulls.

Asked of candidates and not of the best of them: in a world of two answers the best of many that know
nothing turns all prompts, too, as the best random direction does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memgen.neurons.nmd import NeuronMaps
from memgen.rivals.material import Effort, Material
from memgen.rivals.method import Candidate
from memgen.rivals.roster import METHODS
from memgen.steering.cells import grid
from memgen.steering.steering import steering_prompts
from memgen.terms import DIRECTIONS, TARGET
from wired import wired_case

#: they read no label: weights alone, curvature on free and keyed prompts alike, nothing, or what the
#: model itself says to other prompts; of what they turn their labels had no part
BLIND = ("svd", "kfac", "untouched", "patching")
#: they look for the units that an answer needs at all, and here that is one unit, whatever is called what
NEEDED = ("slimming", "hard_concrete")
#: what is fitted to answers leans to one of the only two there are, and a coin decides to which
COIN, SLACK = 0.5, 0.1
#: a representative of each kind for the fast tier
FAST = ("nmd", "cna", "gss")
READING = [n for n in METHODS if n not in (*BLIND, "random_directions")]


@pytest.fixture(scope="module")
def world():
    """`(material, two shuffles of it, prompts of test keys by direction)` of the wired model."""
    steering, frame, answered = wired_case()
    effort = Effort(n_fit=64, steps=16, budget=12)
    found = Material.of(steering, (answered, frame), [], "order", 0, effort)
    steering = steering.at(NeuronMaps.between("resid_post", found.memory, found.rule))
    cells = grid([0.5, 1.0, 2.0, 4.0], [1 / 16, 1 / 8, 0.5, 1.0], steering.nmd, steering.rho)
    found = replace(found, steering=steering, cells=tuple(cells))
    rows = {d: steering_prompts(answered, "test", d, 10) for d in DIRECTIONS}
    return found, [replace(found, seed=seed).shuffled() for seed in (0, 1)], rows


def mean(world, candidates: list[Candidate], direction: str) -> float:
    """Success on test keys, over all candidates."""
    material, _, rows = world
    codes = [c.intervention.read(material.steering, rows[direction]).codes for c in candidates]
    return float((np.array(codes) == TARGET[direction]).mean())


@pytest.fixture(scope="module")
def null(world) -> dict[str, float]:
    """What random directions turn, by direction; an edit is held against one that reads no label."""
    found = {
        d: mean(world, METHODS["random_directions"].candidates(world[0], d), d) for d in DIRECTIONS
    }
    return found | {"editing": mean(world, METHODS["kfac"].candidates(world[0], "m2g"), "m2g")}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in READING],
)
def test_without_the_labels_it_sinks_to_the_nulls(world, null, name):
    material, shuffles, _ = world
    method = METHODS[name]
    if method.lacks(material):
        pytest.skip(method.lacks(material))
    for direction in method.directions:
        own = method.candidates(material, direction)
        drawn = [method.candidates(one, direction) for one in shuffles]
        found = float(np.mean([mean(world, one, direction) for one in drawn]))
        fitted = any(one.gradient_steps for one in own)
        level = null["editing" if method.kind == "editing" else direction]
        if name in NEEDED:
            level = mean(world, own, direction)
        assert found <= max(level, COIN if fitted else 0.0) + SLACK, direction


@pytest.mark.parametrize("name", BLIND)
def test_who_reads_no_label_finds_the_same_without_them(world, name):
    material, shuffles, _ = world
    method = METHODS[name]
    for direction in method.directions:
        own, drawn = (method.candidates(one, direction) for one in (material, shuffles[0]))
        assert [one.label for one in own] == [one.label for one in drawn]
        turned = mean(world, own, direction), mean(world, drawn, direction)
        assert abs(turned[0] - turned[1]) <= (SLACK if name == "kfac" else 0)


def test_with_the_labels_a_method_of_each_kind_is_above_the_nulls(world, null):
    """What the tests above would not see if nothing were ever found here."""
    for name in ("caa", "nmd", "cna", "gss", "kfac_free"):
        method = METHODS[name]
        level = null["editing" if method.kind == "editing" else "m2g"]
        assert mean(world, method.candidates(world[0], "m2g"), "m2g") > level + SLACK, name
