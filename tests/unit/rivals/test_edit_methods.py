"""Every method that edits parts, weights or prompts, where memory is one hidden unit (`wired.py`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memgen.models.components import read
from memgen.models.generate import tokenize_prompts
from memgen.rivals import (
    austeer,
    cna,
    fine_tuning,
    gated,
    iti,
    kfac,
    knowledge_neurons,
    liref,
    neuron_masks,
    patching,
    soft_prompt,
    subnet,
)
from memgen.rivals.feed_forward import linear_maps
from memgen.rivals.interventions import Edits, Weights, untouched
from memgen.rivals.lessons import Lesson, checkpoints, fitting_beside, logits_of, losses
from memgen.rivals.material import Effort, Material
from memgen.rivals.method import Candidate, Method
from memgen.steering.steering import steering_prompts
from memgen.tasks.dataset import free_rows
from memgen.terms import RULE_CODE, TARGET
from wired import HEAD, UNIT, wired_case

STEERING = [
    liref.METHOD,
    iti.METHOD,
    cna.METHOD,
    austeer.METHOD,
    gated.DMS,
    gated.GSS,
    patching.METHOD,
    soft_prompt.METHOD,
]
EDITING = [
    kfac.KFAC,
    kfac.KFAC_FREE,
    kfac.SVD,
    subnet.METHOD,
    knowledge_neurons.METHOD,
    neuron_masks.SLIMMING,
    neuron_masks.HARD_CONCRETE,
    fine_tuning.RULE,
    fine_tuning.RULE_KEPT,
    fine_tuning.UNLEARNING,
]
EVERY = [*STEERING, *EDITING]
BY_NAME = [method.name for method in EVERY]


@pytest.fixture(scope="module")
def wired():
    return wired_case()


@pytest.fixture(scope="module")
def learned(wired) -> Material:
    """Train keys, and as many steps as a mask needs here."""
    steering, frame, answered = wired
    effort = Effort(n_fit=64, steps=32)
    return Material.of(steering, (answered, frame), [], "order", 0, effort)


@pytest.fixture(scope="module")
def hurried(learned) -> Material:
    """The same with hardly a step: for what holds whatever is found."""
    return replace(learned, effort=replace(learned.effort, n_fit=8, steps=2, batch=8))


def best(wired, method: Method, material: Material, direction: str) -> tuple[float, Candidate]:
    """The first of the most successful candidates that keep all free prompts; both on test keys."""
    steering, frame, answered = wired
    rows = steering_prompts(answered, "test", direction, 10)
    free = free_rows(frame, "test", 10)
    found: tuple[float, Candidate] | None = None
    for one in method.candidates(material, direction):
        done = one.intervention
        won = float((done.read(steering, rows).codes == TARGET[direction]).mean())
        better = found is None or won > found[0]
        if better and done.read(steering, free).right(RULE_CODE) == 1.0:
            found = won, one
            if won == 1.0:
                break
    assert found is not None, f"no candidate of {method.name} keeps the free prompts"
    return found


# -- what is planted is found --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "method",
    [
        cna.METHOD,
        gated.DMS,
        gated.GSS,
        patching.METHOD,
        kfac.KFAC,
        kfac.KFAC_FREE,
        knowledge_neurons.METHOD,
        neuron_masks.SLIMMING,
        neuron_masks.HARD_CONCRETE,
    ],
    ids=lambda method: method.name,
)
def test_it_turns_every_test_prompt_to_the_rule_and_no_free_one(wired, learned, method):
    success, _ = best(wired, method, learned, "m2g")
    assert success == 1.0


def test_a_direction_is_deleted_and_a_coordinate_is_scaled_to_nothing(wired, learned):
    """What scales cannot make something of nothing; it can remove the state that the rule needs."""
    steering, _, answered = wired
    rows = steering_prompts(answered, "test", "g2m", 10)
    for method in (liref.METHOD, austeer.METHOD):
        codes = [
            one.intervention.read(steering, rows).codes for one in method.candidates(learned, "g2m")
        ]
        assert max((found == TARGET["g2m"]).mean() for found in codes) == 1.0, method.name


def test_the_head_that_sees_the_state_is_moved_first(wired, learned):
    steering, _, answered = wired
    sides = [
        read(
            steering.model,
            *tokenize_prompts(steering.tokenizer, list(learned.pairs[f"{side}_prompt"])),
            "heads",
            last=True,
        ).numpy()
        for side in ("memory", "rule")
    ]
    memory, rule = (side.reshape(len(side), 2, 2, 4) for side in sides)
    heads = iti.heads_of(memory, rule, learned.keys, learned.rng(0))
    assert heads.accuracy[HEAD] == 1.0 == heads.accuracy.max()
    rows = steering_prompts(answered, "test", "g2m", 10)
    codes = [
        one.intervention.read(steering, rows).codes for one in iti.METHOD.candidates(learned, "g2m")
    ]
    assert max((found == TARGET["g2m"]).mean() for found in codes) == 1.0


def test_rankings_of_units_have_the_memory_unit_first(wired, learned):
    difference = cna.contrast(
        *(cna.units_at_the_end(learned, learned.pairs[f"{s}_prompt"]) for s in ("memory", "rule"))
    )
    assert np.unravel_index((-difference).argmax(), difference.shape) == UNIT
    keyed = knowledge_neurons.attributions_of(learned, learned.keyed, 10)
    assert np.unravel_index(keyed.mean(0).argmax(), keyed.shape[1:]) == UNIT
    assert knowledge_neurons.shared_by(keyed)[UNIT] == 1.0


def test_a_curvature_without_memories_cuts_the_unit_and_the_identity_metric_cannot(wired, learned):
    success, one = best(wired, kfac.KFAC_FREE, learned, "m2g")
    assert success == 1.0 and one.setting["share"] == 0.999
    success, _ = best(wired, kfac.SVD, learned, "m2g")
    assert success == 0.0


def test_the_subnetwork_and_fine_tuning_turn_train_keys(wired, learned, monkeypatch):
    """The subnetwork meets the unit among all others; the wiring is the same for every key."""
    monkeypatch.setattr(subnet, "SHARES", (0.05,))
    monkeypatch.setattr(subnet, "RATES", (0.1,))
    monkeypatch.setattr(fine_tuning, "RATES", (1e-3,))
    longer = replace(learned, effort=replace(learned.effort, steps=64))
    for method in (subnet.METHOD, fine_tuning.RULE):
        success, one = best(wired, method, longer, "m2g")
        assert success == 1.0 and one.gradient_steps > 0, method.name


def test_unlearning_and_soft_prompts_lower_the_loss_they_are_fitted_on(wired, learned):
    model = learned.steering.model
    keyed = fine_tuning.lesson_of(learned, learned.keyed, learned.keyed.memory_answer)
    fits = fine_tuning.trained(
        learned, [fine_tuning.Goal(keyed, -1.0)], 1e-3, np.random.default_rng(0)
    )
    found = [float(losses(model, keyed, weights).mean().detach()) for _, weights in fits]
    assert found == sorted(found) and found[-1] > float(losses(model, keyed).mean().detach())
    assert [step for step, _ in fits] == checkpoints(32, 5) == [2, 4, 8, 16, 32]


def test_unlearning_in_a_share_of_the_weights_leaves_the_others(learned):
    memorized = {"a": torch.tensor([5.0, 0.1]), "b": torch.tensor([[-4.0, 3.0]])}
    free = {"a": torch.tensor([0.0, 0.0]), "b": torch.tensor([[0.0, 2.9]])}
    chosen = fine_tuning.most_memorizing(memorized, free, 0.5)
    assert chosen["a"].tolist() == [True, False] and chosen["b"].tolist() == [[True, False]]
    candidates = fine_tuning.UNLEARNING.candidates(
        replace(learned, effort=replace(learned.effort, steps=2)), "m2g"
    )
    few = next(one for one in candidates if one.setting["share"] < 1)
    own = dict(learned.steering.model.named_parameters())
    changed = sum(
        int((value != own[name]).sum()) for name, value in few.intervention.changes.items()
    )
    assert 0 < changed <= round(0.01 * sum(value.numel() for value in own.values()))


# -- patching ------------------------------------------------------------------------------------------
def test_donors_show_the_target_with_the_same_answers_and_length(wired, learned):
    steering, frame, answered = wired
    rows = steering_prompts(answered, "test", "m2g", 10)
    donors = patching.donors_of(steering, rows, "m2g")
    codes = untouched(steering).read(steering, rows.assign(prompt=donors)).codes
    assert (codes == TARGET["m2g"]).all() and not set(donors) & set(rows.prompt)
    free = free_rows(frame, "test", 5)
    assert patching.donors_of(steering, free, "m2g") == list(free.prompt)
    where = {one.label: one for one in patching.METHOD.candidates(learned, "m2g")}
    turned = {
        label: (one.intervention.read(steering, rows).codes == TARGET["m2g"]).mean()
        for label, one in where.items()
    }
    assert turned["mlp of layer 1"] == turned["residual of layer 1"] == 1.0
    assert turned["attention of layer 1"] == turned["mlp of layer 2"] == 0.0


# -- curvature, attributions: against slow ways to the same numbers ------------------------------------
def test_factors_are_those_of_the_gradient_of_a_drawn_loss(learned):
    model, maps = learned.steering.model, linear_maps(learned.steering.model)
    lesson = Lesson.of(learned.steering, ["key1 word2 near-memory"], ["M"])
    real = kfac._real(lesson)
    with fitting_beside(model):
        inputs, gradients = kfac._passed(
            model, lesson.ids, real, maps, torch.Generator().manual_seed(3)
        )
    assert int(real.sum()) == lesson.ids.shape[1] - 1 == 4
    weights = fine_tuning.copied(model)
    given = Lesson(lesson.ids, real)
    logits = logits_of(model, given, weights)
    drawn = torch.multinomial(
        logits.detach().softmax(-1), 1, generator=torch.Generator().manual_seed(3)
    )[:, 0]
    torch.nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()
    for one in maps:
        found = inputs[one.parameter].T @ gradients[one.parameter]  # [in, out], as GPT-2 stores it
        assert torch.allclose(found, weights[one.parameter].grad, atol=1e-5), one.parameter


def test_attributions_are_those_of_a_slow_loop(learned):
    model, tokenizer = learned.steering.model, learned.steering.tokenizer
    rows = learned.keyed[:2]
    found = knowledge_neurons.attributions_of(learned, rows, 2)
    for row, one in enumerate(rows.itertuples()):
        ids = torch.tensor([tokenizer(one.prompt)["input_ids"]])
        (answer,) = tokenizer("M")["input_ids"]
        for layer, block in enumerate(model.transformer.h):
            seen: list = []
            handle = block.mlp.act.register_forward_hook(lambda m, i, out: seen.append(out[0, -1]))
            with torch.no_grad():
                model(ids)
            handle.remove()
            (own,) = seen
            total = torch.zeros_like(own)
            for scale in torch.linspace(0, 1, knowledge_neurons.STEPS):
                given = (scale * own).requires_grad_(True)

                def replaced(module, args, out, given=given):
                    return torch.cat([out[:, :-1], given[None, None]], dim=1)

                handle = block.mlp.act.register_forward_hook(replaced)
                likely = model(ids).logits[0, -1].softmax(-1)[answer]
                handle.remove()
                total += torch.autograd.grad(likely, given)[0]
            slow = own * total / knowledge_neurons.STEPS
            assert np.allclose(found[row, layer], slow.numpy(), atol=1e-5)


# -- what holds for all ----------------------------------------------------------------------------------
@pytest.mark.parametrize("method", EVERY, ids=BY_NAME)
def test_budget_model_and_numbers(wired, hurried, method):
    """At most the budget, gentlest first; twice the same; the model is untouched, also after reading."""
    steering, _, answered = wired
    model = steering.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asked = [value.requires_grad for value in model.parameters()]
    few = replace(hurried, effort=replace(hurried.effort, budget=3))
    rows = steering_prompts(answered, "test", "m2g", 3)
    for direction in method.directions:
        one, two = (method.candidates(few, direction) for _ in range(2))
        assert 0 < len(one) <= 3
        assert [c.strength for c in one] == sorted(c.strength for c in one)
        for first, second in zip(one, two, strict=True):
            assert first.label == second.label
            found = [c.intervention.read(steering, rows).log_probs for c in (first, second)]
            assert torch.equal(*found)
    whole = method.candidates(replace(hurried, effort=replace(hurried.effort, budget=999)), "m2g")
    assert len(whole) <= 50 and len({c.label for c in whole}) == len(whole)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [value.requires_grad for value in model.parameters()] == asked
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize(
    "method",
    [cna.METHOD, gated.DMS, gated.GSS, iti.METHOD, kfac.KFAC_FREE, knowledge_neurons.METHOD],
    ids=lambda method: method.name,
)
def test_without_the_labels_less_is_found(wired, learned, method):
    """Where behaviours are dealt at random the choice on free prompts is all that is left."""
    few = replace(learned, effort=replace(learned.effort, budget=12))
    own = [c.intervention for c in method.candidates(few, "m2g")]
    shuffled = [c.intervention for c in method.candidates(few.shuffled(), "m2g")]
    rows = steering_prompts(wired[2], "test", "m2g", 10)
    steering = wired[0]

    def mean(every: list[Edits | Weights]) -> float:
        codes = [one.read(steering, rows).codes == TARGET["m2g"] for one in every]
        return float(np.mean(codes))

    assert mean(shuffled) <= mean(own)
