"""Operators of edits against short transcriptions of the published code, on planted arrays.

Every transcription is written out as its source has it (loops, heaps and all), and names it.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model

from memgen.models.adapters import attach
from memgen.models.build import build_model
from memgen.models.components import edited
from memgen.models.sites import bare
from memgen.models.tokenizer import build_tokenizer
from memgen.rivals.austeer import momentum, scaled_by, strengths
from memgen.rivals.cna import chosen_units, contrast, multiplied
from memgen.rivals.feed_forward import linear_maps
from memgen.rivals.gated import Subspace, gated, probe_line
from memgen.rivals.interventions import Weights, exchanged
from memgen.rivals.ipr import participation
from memgen.rivals.iti import heads_of
from memgen.rivals.kfac import Curvature, kept_entries, truncated
from memgen.rivals.knowledge_neurons import integrated, shared_by
from memgen.rivals.lessons import Lesson, losses
from memgen.rivals.liref import at_every_place, mean_direction, scaled
from memgen.rivals.neuron_masks import chance, concrete, log_alpha, mean_size
from memgen.rivals.soft_prompt import Prefix, losses_behind
from memgen.rivals.subnet import Cut, balanced, random_scores
from memgen.steering.steering import Steering
from steered import random_model

NEAR = 1e-5
RNG = np.random.default_rng(5)
_BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws():
    """Whatever ran before in this process, a test draws the same."""
    RNG.bit_generator.state = _BEGIN


@pytest.fixture(autouse=True)
def _same_draws():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tiny():
    """`(tokenizer, model)`: two layers x 16, random weights, and a vocabulary of eight words."""
    return random_model()


# -- LiReF: yihuaihong/Linear_Reasoning_Features, reasoning_representation/Intervention/utils.py -------
def _lirefs_hook(x, direction, scale):
    projection = (x @ direction).unsqueeze(-1) * direction
    return x + scale * projection


def test_liref_scales_what_lies_along_the_direction():
    x, u = torch.randn(3, 4, 16), torch.nn.functional.normalize(torch.randn(16), dim=0)
    assert torch.allclose(scaled(x, u, 0.1), _lirefs_hook(x, u, 0.1), atol=NEAR)
    assert torch.allclose(scaled(x, u, -1.0) @ u, torch.zeros(3, 4), atol=NEAR)


def test_liref_acts_on_every_layers_input_attention_and_feed_forward_output(tiny):
    tokenizer, model = tiny
    u = mean_direction(RNG.normal(size=(9, 16)), RNG.normal(size=(9, 16)))
    unit, ids = torch.from_numpy(u).float(), torch.tensor([[3, 5, 7, 4]])
    handles = []
    for block in model.transformer.h:
        handles.append(
            block.register_forward_pre_hook(
                lambda m, args: (_lirefs_hook(args[0], unit, 0.7), *args[1:])
            )
        )
        for part in (block.attn.c_proj, block.mlp):
            handles.append(
                part.register_forward_hook(lambda m, args, out: _lirefs_hook(out, unit, 0.7))
            )
    with torch.no_grad():
        theirs = model(ids).logits
        for handle in handles:
            handle.remove()
        plain = model(ids).logits
        with edited(model, at_every_place(u, 0.7, 2)):
            ours = model(ids).logits
    assert torch.allclose(ours, theirs, atol=NEAR) and not torch.allclose(ours, plain, atol=1e-2)


# -- ITI: likenneth/honest_llama, utils.py: get_com_directions, get_interventions_dict ------------------
def test_iti_adds_alpha_sigma_theta_of_the_most_accurate_heads():
    n, n_layer, n_head, width, alpha = 40, 2, 3, 4, 15.0
    memory = RNG.normal(size=(n, n_layer, n_head, width))
    rule = RNG.normal(size=(n, n_layer, n_head, width))
    rule[:, 1, 2, 0] += 6  # this head tells the sides apart
    keys = np.repeat(np.arange(10), 4)
    heads = heads_of(memory, rule, keys, np.random.default_rng(0))
    usable = np.concatenate([memory, rule])
    labels = np.repeat([0, 1], n)
    for layer in range(n_layer):
        for head in range(n_head):
            own = usable[:, layer, head]
            direction = own[labels == 1].mean(axis=0) - own[labels == 0].mean(axis=0)
            direction = direction / np.linalg.norm(direction)
            assert np.allclose(heads.theta[layer, head], direction, atol=NEAR)
            assert np.isclose(heads.sigma[layer, head], np.std(own @ direction.T), atol=NEAR)
    shift = heads.shift(1, alpha).reshape(n_layer, n_head, width)
    expected = np.zeros_like(shift)
    expected[1, 2] = alpha * heads.sigma[1, 2] * heads.theta[1, 2]
    assert np.allclose(shift, expected, atol=NEAR) and heads.accuracy[1, 2] == 1.0
    assert (heads.shift(2, 1.0).reshape(n_layer * n_head, width).any(axis=1)).sum() == 2


# -- CNA: summaries of arXiv 2605.12290 ---------------------------------------------------------------
def test_cna_takes_the_largest_differences_that_are_not_universal():
    memory, rule = RNG.normal(size=(2, 12, 2, 50))
    rule[:, 1, 7] += 9
    rule[:, 0, 3] += 8
    memory[:, 0, 4] += 7
    generic = RNG.normal(size=(20, 2, 50))
    generic[:, 1, 7] = -50.0  # loud in nearly every prompt, whatever is asked
    difference = contrast(memory, rule)
    found = chosen_units(difference, generic, 0.03)
    ranked = sorted(
        ((abs(rule[:, layer, u].mean() - memory[:, layer, u].mean()), layer, u))
        for layer in range(2)
        for u in range(50)
    )[-3:]
    assert {(layer, u) for _, layer, u in ranked} == {(1, 7), (0, 3), (0, 4)}
    assert {tuple(at) for at in np.argwhere(found)} == {(0, 3), (0, 4)}
    assert {tuple(at) for at in np.argwhere(chosen_units(difference, generic, 0.01, "memory"))} == {
        (0, 4)
    }
    units = torch.ones(1, 1, 50)
    assert multiplied(found, 2.0)["units", 0](units).sum() == 52
    assert list(multiplied(found, 2.0)) == [("units", 0)]


# -- AUSteer: zijian678/AUSteer, steer.py: MFU_screening, set_MFU; rmodels: x + x * activation_mask ----
def test_austeer_scales_the_coordinates_that_are_larger_most_often():
    pos, neg = RNG.normal(size=(2, 11, 3, 8)).round(1)  # rounded: some pairs are equal
    neg[:, 0, 0] = pos[:, 0, 0]
    scores, places = [], []
    for lid in range(3):
        for i in range(8):
            gains = torch.from_numpy(pos[:, lid, i : i + 1] - neg[:, lid, i : i + 1])
            larger0, small0 = (gains > 0).sum(dim=0), (gains < 0).sum(dim=0)
            beta = torch.max(larger0, small0) / gains.shape[0]
            if larger0 < small0:
                beta = -1.0 * beta
            scores.append(float(beta))
            places.append((lid, i))
    found = momentum(pos, neg)
    assert np.allclose(found.ravel(), scores, atol=NEAR)
    order = sorted(range(len(scores)), key=lambda i: abs(scores[i]), reverse=True)
    mask = torch.zeros(3, 8)
    for i in order:
        mask[places[i]] = 1.0 * scores[i]
        if torch.count_nonzero(mask) >= 5:
            break
    strength = strengths(found, 5, 2.0)
    assert np.allclose(strength, (mask * 2.0).numpy(), atol=NEAR)
    h = torch.randn(2, 3, 8)
    for (_, layer), edit in scaled_by("resid_post", strength).items():
        assert torch.allclose(edit(h), h[:, :, :] + h[:, :, :] * (mask * 2.0)[layer], atol=NEAR)


# -- K-FAC: goodfire-ai/memorization_kfac, kfac_treatment_pairwise.py ---------------------------------
def _top_pairs_by_product(g, a, ratio):
    target, heap, seen = ratio * (g.sum() * a.sum()).item(), [(-(g[0] * a[0]).item(), 0, 0)], set()
    mass, selected = 0.0, []
    while mass < target and heap:
        product, i, j = heapq.heappop(heap)
        mass -= product
        selected.append((i, j))
        for k, m in ((i + 1, j), (i, j + 1)):
            if k < len(g) and m < len(a) and (k, m) not in seen:
                heapq.heappush(heap, (-(g[k] * a[m]).item(), k, m))
                seen.add((k, m))
    return selected


@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
def test_kfac_keeps_the_largest_products_of_eigenvalues(share):
    def factor(width):
        x = torch.randn(200, width, dtype=torch.float64) * torch.linspace(0.1, 2, width)
        return x.T @ x / 200

    a, g, w = factor(7), factor(5), torch.randn(5, 7, dtype=torch.float64)
    eva_a, evc_a = torch.linalg.eigh(a)
    eva_g, evc_g = torch.linalg.eigh(g)
    down_a, down_g = eva_a.argsort(descending=True), eva_g.argsort(descending=True)
    pairs = _top_pairs_by_product(eva_g[down_g], eva_a[down_a], share)
    c = evc_g[:, down_g].T @ w @ evc_a[:, down_a]
    mask = torch.zeros_like(c)
    for i, j in pairs:
        mask[i, j] = 1
    theirs = evc_g[:, down_g] @ (c * mask) @ evc_a[:, down_a].T
    assert torch.allclose(Curvature.of(a, g).edited(w, share), theirs, atol=NEAR)
    assert int(kept_entries(eva_g, eva_a, share).sum()) == len(pairs)
    assert torch.allclose(Curvature.of(a, g).edited(w, 1.0), w, atol=NEAR)


def test_the_identity_metric_is_a_truncated_svd():
    w = torch.randn(6, 9, dtype=torch.float64)
    left, values, right = np.linalg.svd(w.numpy(), full_matrices=False)
    rank = 1 + int(np.argmax(np.cumsum(values**2) / (values**2).sum() >= 0.8))
    expected = (left[:, :rank] * values[:rank]) @ right[:rank]
    assert np.allclose(truncated(w, 0.8).numpy(), expected, atol=NEAR)


# -- BalancedSubnet: msakarvadia/memorization, src/localize/weight/random_subnet_greedy.py ------------
class _GetSubnet(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, k):
        out = scores.clone()
        _, idx = scores.flatten().sort()
        j = int(k * scores.numel())
        flat_out = out.flatten()
        flat_out[idx[:j]] = 0
        flat_out[idx[j:]] = 1
        return flat_out.reshape(out.shape)

    @staticmethod
    def backward(ctx, g):
        return g, None


def test_the_subnetwork_cuts_the_smallest_scores_and_passes_the_gradient_on():
    scores, w = torch.randn(6, 10), torch.randn(6, 10)
    found = []
    for cut in (Cut, _GetSubnet):
        own = scores.clone().requires_grad_(True)
        mask = cut.apply(own.abs(), 0.23)
        (mask * w).pow(2).sum().backward()
        found.append((mask.detach(), own.grad))
    assert torch.equal(*(mask for mask, _ in found))
    assert torch.allclose(*(gradient for _, gradient in found), atol=NEAR)
    assert int((found[0][0] == 0).sum()) == int(0.23 * 60)


def test_the_subnetworks_loss_and_its_random_scores():
    each, label = torch.rand(8), torch.tensor([1.0, -1, -1, 1, 1, -1, -1, -1])  # 1: memorized
    loss = each.clone()
    loss *= -8 * label
    assert torch.isclose(balanced(each, label > 0), loss.mean(), atol=NEAR)
    drawn = random_scores((400, 300), torch.Generator().manual_seed(0))
    reference = torch.nn.init.kaiming_uniform_(torch.empty(400, 300), a=math.sqrt(5))
    for name in ("min", "max", "std"):
        assert getattr(drawn, name)().isclose(getattr(reference, name)(), rtol=0.02)


# -- IPR: d-doshi/Grokking, utils/Grokking_lib.py: calculate_ipr ---------------------------------------
def test_ipr_is_one_for_a_single_frequency_and_small_for_noise():
    residues = np.arange(97)
    wave, noise = np.cos(2 * np.pi * 5 * residues / 97 + 0.4), RNG.normal(size=97)
    weights = np.stack([wave, noise, np.zeros(97)], axis=1)
    found = participation(weights)
    for column in (0, 1):
        array = np.abs(np.fft.rfft(weights[:, column]))
        assert np.isclose(found[column], np.power(array / np.sqrt((array**2).sum()), 4).sum())
    assert np.isclose(found[0], 1, atol=NEAR) and found[1] < 0.2 and found[2] == 0


# -- knowledge neurons: EleutherAI/knowledge-neurons; terarachang/MemPi, knowledge_neuron.py ----------
def test_integrated_gradients_scale_the_activation_and_average():
    activation, weight = torch.randn(3, 6), torch.randn(6)
    steps = torch.linspace(start=0, end=1, steps=20)[:, None, None] * activation
    steps.requires_grad_(True)
    (gradients,) = torch.autograd.grad(torch.sigmoid(steps @ weight).sum(), steps)
    total = torch.zeros(3, 6)
    for grad in gradients:
        total += grad
    assert torch.allclose(integrated(activation, gradients), activation * total / 20, atol=NEAR)
    whole = torch.sigmoid(activation @ weight) - 0.5  # what the attributions of a prompt add up to
    assert torch.allclose(integrated(activation, gradients).sum(1), whole, atol=0.02)


def test_neurons_that_many_facts_share_are_counted_per_fact():
    attributions = np.zeros((10, 2, 3))
    attributions[:, 0, 0] = 1.0
    attributions[:7, 1, 2] = 0.25  # at least 0.2 of the largest in seven of ten
    attributions[:, 1, 1] = 0.1
    kept = shared_by(attributions) >= 0.7
    assert {tuple(at) for at in np.argwhere(kept)} == {(0, 0), (1, 2)}


# -- Slimming, Hard Concrete: terarachang/MemPi, slim.py, modeling_hardconcrete.py ---------------------
def test_hard_concrete_masks_and_both_penalties():
    left, right, beta, mask_p = -0.1, 1.1, 0.33, 0.9
    p = (mask_p - left) / (right - left)
    assert math.isclose(log_alpha(), np.log(p / (1 - p)), rel_tol=NEAR)
    scores, u = torch.randn(40), torch.rand(40)
    v = u.clamp(0.0001, 0.9999)
    s = torch.sigmoid((v.log() - (1 - v).log() + scores) / beta)
    mask = (s * (right - left) + left).clamp(min=0.0, max=1.0)
    assert torch.allclose(concrete(scores, u), mask, atol=NEAR)
    size = torch.sum(torch.sigmoid(scores - beta * np.log(-left / right))) / scores.numel()
    assert torch.isclose(chance(scores), size, atol=NEAR)
    assert torch.isclose(mean_size(scores), torch.norm(scores, 1) / len(scores), atol=NEAR)


# -- gated steering: the formulas are ours -------------------------------------------------------------
def test_a_gate_moves_the_unwanted_side_and_leaves_the_other():
    memory, rule = RNG.normal(size=(2, 300, 6))
    rule[:, 2] += 8
    weight, bias = probe_line(memory, rule)
    odds = np.concatenate([memory, rule]) @ weight + bias
    assert (odds[:300] < 0).mean() > 0.95 and (odds[300:] > 0).mean() > 0.95
    step = torch.tensor([0.0, 0, 8, 0, 0, 0], dtype=torch.float64)
    line = torch.from_numpy(-weight), -bias
    moved, left = (
        (gated(torch.from_numpy(side), line, step) - torch.from_numpy(side))[:, 2].mean()
        for side in (memory, rule)
    )
    assert moved > 7 and left < 1


def test_the_gated_subspace_brings_the_unwanted_side_to_the_wanted_mean():
    wanted, unwanted = RNG.normal(size=(2, 400, 6)) * np.array([3, 1, 1, 1, 1, 0.5])
    unwanted[:, 1] += 12
    pair = Subspace.between(wanted, unwanted)
    assert np.isclose(pair.probe @ pair.steer, 1, atol=1e-6)
    assert abs(pair.steer[1]) > 0.9 * np.linalg.norm(pair.steer)
    h = torch.from_numpy(unwanted)
    after = pair.corrected(h, 2.0, 1.0)
    assert (h[:, 1] > 6).all() and after[:, 1].mean().abs() < 0.3
    assert torch.allclose(after[:, 2:], h[:, 2:], atol=2.0)
    untouched = torch.from_numpy(wanted)
    changed = (pair.corrected(untouched, 2.0, 1.0) != untouched).any(1)
    assert changed.double().mean() < 0.06  # beyond two standard deviations on one side


# -- lessons, weights beside the model, soft prompts ---------------------------------------------------
class _Asked:
    """As much of a task as a lesson asks for."""

    open_ended, max_answer_tokens = False, 3


def _steering(tiny) -> Steering:
    tokenizer, model = tiny
    return Steering(model, tokenizer, _Asked(), None)


def test_a_lessons_loss_is_the_models_own_on_the_answer(tiny):
    tokenizer, model = tiny
    lesson = Lesson.of(_steering(tiny), ["w0 w1 ", "w2 w3 w4 "], ["w5 w6 ", "w7 "])
    for row, (prompt, answer) in enumerate([("w0 w1 ", "w5 w6 "), ("w2 w3 w4 ", "w7 ")]):
        one = tokenizer(prompt + answer)["input_ids"] + [tokenizer.eos_token_id]
        n = len(tokenizer(prompt)["input_ids"])
        labels = torch.tensor([[-100] * n + one[n:]])
        with torch.no_grad():
            expected = model(torch.tensor([one]), labels=labels).loss
            assert torch.isclose(losses(model, lesson)[row], expected, atol=NEAR)
    both = lesson.joined(Lesson.of(_steering(tiny), ["w1 "], ["w2 "]))
    with torch.no_grad():
        assert torch.allclose(losses(model, both)[:2], losses(model, lesson), atol=NEAR)


def test_weights_beside_the_model_stand_in_for_its_own(tiny):
    _, model = tiny
    lesson = Lesson.of(_steering(tiny), ["w0 w1 "], ["w5 w6 "])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    embeddings = model.get_input_embeddings().weight.detach()
    name = "transformer.wte.weight"  # tied: it is the last map's weight, too
    doubled = losses(model, lesson, {name: 2 * embeddings})
    with torch.no_grad():
        embeddings.mul_(2)
        expected = losses(model, lesson)
        embeddings.copy_(before[name])
    assert torch.allclose(doubled, expected, atol=NEAR)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())


def test_linear_maps_hold_what_the_model_multiplies_with():
    tokenizer = build_tokenizer([f"w{i} " for i in range(8)])
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16}
    for architecture, names in (("gpt2", 2), ("llama", 3)):
        model = build_model(
            tokenizer, architecture=architecture, **sizes, initializer_range=0.5, seed=0
        )
        maps = linear_maps(model)
        assert len(maps) == 2 * names
        for one in maps:
            x = torch.randn(1, one.weight.shape[1])
            bias = getattr(one.base, "bias", None)
            made = x @ one.weight.T + (0 if bias is None else bias)
            assert torch.allclose(one.module(x), made, atol=NEAR)
            stored = dict(model.named_parameters())[one.parameter]
            assert torch.equal(one.storing(one.weight), stored)


def test_linear_maps_hold_what_an_adapter_adds():
    _, model = random_model()
    tuned = attach(model, rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0).eval()
    for name, value in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    x, names = torch.randn(3, 16), dict(bare(tuned).named_parameters())
    for one in linear_maps(tuned)[::2]:
        assert one.name == "c_fc" and one.adapter.abs().max() > 0.1
        made = one.module(x)
        assert torch.allclose(made, x @ one.weight.T + one.base.bias, atol=NEAR)
        doubled = one.storing(2 * one.weight)
        with exchanged(bare(tuned), {one.parameter: doubled}):
            twice = one.module(x)
        assert torch.allclose(twice - one.base.bias, 2 * (made - one.base.bias), atol=1e-4)
        assert doubled.shape == names[one.parameter].shape


def test_a_soft_prompt_computes_what_pefts_prompt_tuning_does():
    """Of a model with rotary positions, where a prefix displaces nothing."""
    tokenizer, _ = random_model()
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16}
    model = build_model(tokenizer, architecture="llama", **sizes, initializer_range=0.5, seed=0)
    model.eval()
    steering = Steering(model, tokenizer, _Asked(), None)
    vectors = torch.randn(3, 16)
    lesson = Lesson.of(steering, ["w0 w1 ", "w2 w3 "], ["w5 ", "w7 "])
    with torch.no_grad():
        ours = losses_behind(model, lesson, vectors)
    rows = pd.DataFrame(
        {"prompt": ["w0 w1 ", "w2 w3 w4 "], "memory_answer": "w5 ", "rule_answer": "w6 "}
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    read = Prefix(vectors).read(steering, rows)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())
    assert "forward" not in vars(model.get_input_embeddings())
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        tuned.prompt_encoder["default"].embedding.weight.copy_(vectors)
        for row in range(2):
            ids, wanted = lesson.ids[row], lesson.wanted[row]
            labels = torch.full_like(ids, -100)
            labels[1:][wanted[:-1]] = ids[1:][wanted[:-1]]
            theirs = tuned(input_ids=ids[None], labels=labels[None]).loss
            assert torch.isclose(ours[row], theirs, atol=NEAR)
        for row, prompt in enumerate(rows.prompt):
            ids = torch.tensor([tokenizer(prompt)["input_ids"]])
            logits = tuned(input_ids=ids).logits[0, -1]
            assert torch.allclose(read.log_probs[row], logits.log_softmax(-1), atol=NEAR)


def test_a_prefix_leaves_learned_positions_to_the_prompt():
    """Without attention an answer depends on its token and position alone: a prefix changes neither."""
    tokenizer, model = random_model()
    steering = Steering(model, tokenizer, _Asked(), None)
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_proj.weight.zero_()
            block.attn.c_proj.bias.zero_()
    rows = pd.DataFrame(
        {"prompt": ["w0 w1 ", "w2 w3 w4 "], "memory_answer": "w5 ", "rule_answer": "w6 "}
    )
    vectors = torch.randn(3, 16)
    plain, behind = (done.read(steering, rows).log_probs for done in (Weights({}), Prefix(vectors)))
    assert torch.allclose(plain, behind, atol=NEAR)
    lesson = Lesson.of(steering, list(rows.prompt), list(rows.rule_answer))
    with torch.no_grad():
        found = losses_behind(model, lesson, vectors)
        assert torch.allclose(found, losses(model, lesson), atol=NEAR)
    assert "forward" not in vars(model.transformer.wpe)
