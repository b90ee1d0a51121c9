"""A rival that reads no difference of means: a constant vector that is fitted by gradient.

One vector per chosen layer is added where a shift is, and moved by Adam so that the answer that is steered
to becomes likely on conflict prompts of train keys, token after token of it (teacher-forced). Weights are
not touched. With retention the loss also holds the model to what it says untouched on free prompts and
plain facts of train keys. Layers, retention and the step at which to stop are chosen on validation keys:
each of them is a candidate that counts as one evaluation, as a cell does.

Source of the idea: Dunefsky and Cohan (2025), arXiv 2502.18862.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache

from memgen.models.components import component_modules
from memgen.models.hooks import evaluating, hooked, position_ids, vector_of, with_vector
from memgen.models.room import fitting
from memgen.models.sites import bare, site_modules
from memgen.phases import phase
from memgen.steering.rivals import NO_RIVALS, Rivals, Yardstick, best_of
from memgen.steering.steering import Steering
from memgen.steering.trial import Trial
from memgen.steering.unsteered import ROWS, Unsteered, skipped
from memgen.terms import OPTIMISED, OPTIMISED_KEPT, SIGN, TARGET

FEW_LAYERS = 4  # in a model with no more, each layer is tried alone
DEPTHS = (1 / 2, 2 / 3)  # in a deeper one those that lie here


@dataclass(frozen=True)
class Examples:
    """What a vector is fitted on, of train keys.

    `turn`: conflict prompts that are answered the other way. `stay`: tables of prompts that should stay,
    each with the code of its right answer.
    """

    turn: pd.DataFrame
    stay: Sequence[tuple[pd.DataFrame, int]]


@dataclass(frozen=True)
class Recipe:
    """`steps` of Adam on `rows` prompts each; a candidate at every one of `checkpoints` even stops.

    `rate`: the norm of one step as a share of that of the layer's states (root mean square), at most; where
    several layers are moved at once, that of all of them together.
    """

    steps: int
    rows: int = 8
    checkpoints: int = 4
    rate: float = 0.05
    seed: int = 0

    @property
    def stops(self) -> list[int]:
        """After which steps a candidate is taken, from 1."""
        return sorted(
            {
                max(1, round(self.steps * k / self.checkpoints))
                for k in range(1, self.checkpoints + 1)
            }
        )


@dataclass(frozen=True)
class Forced:
    """Prompts with an answer each, read in one pass behind what no shift changes.

    `tokens` `[P, tail + A - 1]`: the prompt from the first shifted token on, and the answer but for its
    last token; `mask`: of the whole prompt and these; `answers` `[P, A]`, -1 behind their ends; `shared`:
    the pass over the tokens before (None: there are none). `trimmed`: under a shift the last block
    computes what is read of it alone, which may change the last bits.
    """

    steering: Steering
    tokens: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor
    shared: Unsteered | None
    trimmed: bool = False

    @classmethod
    def of(cls, steering: Steering, rows: pd.DataFrame, code: int, trimmed: bool = False) -> Forced:
        """The answer `code` of each prompt, with its end mark unless anything may end it."""
        prompts, nothing = steering.prompts(rows), np.zeros((1, *steering.nmd.shape))
        answers, width = prompts.candidates[:, code], prompts.input_ids.shape[1]
        if steering.task.open_ended:
            lengths = (answers >= 0).sum(1, keepdim=True)
            places = torch.arange(answers.shape[1], device=answers.device)
            answers = answers.masked_fill(places == lengths - 1, -1)[:, : int(lengths.max()) - 1]
        at_decision = steering.positions == "decision"
        known = width - 1 if at_decision else 0
        with torch.no_grad():
            shared = steering.sweep(nothing, rows).shared if at_decision and known else None
        given = answers[:, :-1]
        return cls(
            steering,
            torch.cat([prompts.input_ids[:, known:], given.clamp(min=0)], dim=1),
            torch.cat([prompts.attention_mask, (given >= 0).long()], dim=1),
            answers,
            shared,
            trimmed,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def decision(self) -> int:
        """The column of `tokens` that holds the last token of the prompt."""
        return self.tokens.shape[1] - self.answers.shape[1]

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[rows, A, vocabulary]` at the places of the answers' tokens."""
        core, cache = bare(self.steering.model), DynamicCache()
        known = self.mask.shape[1] - self.tokens.shape[1]
        if self.shared is not None:
            for layer, (keys, values) in enumerate(self.shared.before(rows, known)):
                cache.update(keys, values, layer)
        mask = self.mask[rows]
        logits = core(
            input_ids=self.tokens[rows],
            attention_mask=mask,
            position_ids=position_ids(mask)[:, known:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=self.answers.shape[1],
        ).logits
        return logits.float().log_softmax(-1)

    @cached_property
    def untouched(self) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
        """Without a shift: outputs of all blocks, states at the site (lists over layers, `[P, tokens, d]`),
        and `run` of all rows.
        """
        model = self.steering.model
        sites = [site_modules(model, name) for name in ("resid_post", self.steering.site)]
        parts, every = [], torch.arange(len(self), device=self.tokens.device)
        with torch.no_grad():
            for rows in every.split(fitting(model, self.mask.shape[1], ROWS)):
                seen: list[list[torch.Tensor]] = [[], []]
                hooks = [_keeping(into) for into, of in zip(seen, sites) for _ in of]
                with hooked([*sites[0], *sites[1]], hooks):
                    log = self.run(rows)
                parts.append((*seen, log))
        outputs, states = (
            [torch.cat(of) for of in zip(*(part[i] for part in parts), strict=True)] for i in (0, 1)
        )
        return outputs, states, torch.cat([log for *_, log in parts])

    def shifted(self, rows: torch.Tensor, delta: dict[int, torch.Tensor]) -> torch.Tensor:
        """`run` with a vector `[d]` added in each of these layers; blocks below them do not compute."""
        model, site = self.steering.model, self.steering.site
        blocks, modules = site_modules(model, "resid_post"), site_modules(model, site)
        below = min(delta) + (site == "resid_post")
        resumed = self.untouched[0][below - 1][rows] if below else None
        hooks = [_adding(delta[layer]) for layer in delta]
        read = only_last_tokens(model, self.answers.shape[1]) if self.trimmed else nullcontext()
        with skipped(blocks[:below], lambda: resumed), read:
            with hooked([modules[layer] for layer in delta], hooks):
                return self.run(rows)

    def unlikely(self, rows: torch.Tensor, delta: dict[int, torch.Tensor]) -> torch.Tensor:
        """Mean of -log p(answer)."""
        wanted = self.answers[rows]
        found = self.shifted(rows, delta).gather(2, wanted.clamp(min=0)[..., None])[..., 0]
        return -(found * (wanted >= 0)).sum(1).mean()

    def moved(self, rows: torch.Tensor, delta: dict[int, torch.Tensor]) -> torch.Tensor:
        """KL(untouched || shifted), mean over the tokens of the answers, in nats."""
        before, real = self.untouched[2][rows], self.answers[rows] >= 0
        apart = (before.exp() * (before - self.shifted(rows, delta))).sum(-1)
        return apart[real].mean()


@contextmanager
def only_last_tokens(model: nn.Module, n: int) -> Iterator[None]:
    """Inside, the last block's output is right at the last n positions only; no block follows it."""
    mixed, norm, mlp = (
        component_modules(model, "heads")[0][-1],
        site_modules(model, "ln_2")[-1],
        site_modules(model, "mlp_out")[-1],
    )
    width: list[int] = []  # tokens of this pass

    def cut(module: nn.Module, args: tuple) -> tuple:
        width[:] = [args[0].shape[1]]
        return (args[0][:, -n:].contiguous(), *args[1:])

    def wide(module: nn.Module, args: tuple, output):
        found = vector_of(output)
        return with_vector(output, F.pad(found, (0, 0, width[0] - found.shape[1], 0)))

    with ExitStack() as stack:
        for module in (mixed, norm):
            stack.callback(module.register_forward_pre_hook(cut).remove)
        for module in (mixed, mlp):
            stack.callback(module.register_forward_hook(wide).remove)
        yield


def _keeping(into: list[torch.Tensor]) -> Callable:
    return lambda module, args, output: into.append(vector_of(output))


def _adding(vector: torch.Tensor) -> Callable:
    return lambda module, args, output: with_vector(output, vector_of(output) + vector)


@contextmanager
def weights_at_rest(model: nn.Module) -> Iterator[None]:
    """Inside, no weight asks for a gradient; afterwards those ask that did before."""
    asking = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        for weight in asking:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


@phase("training")
def fitted(
    layers: Sequence[int], turn: Forced, stay: Sequence[Forced], recipe: Recipe
) -> Iterator[tuple[int, np.ndarray]]:
    """`(steps, vector [L, d])` at every stop, 0 outside `layers`; `stay`: what it is held to, if anything."""
    steering = turn.steering
    states = turn.untouched[1]
    size = torch.stack(
        [states[layer][:, turn.decision].float().square().mean() for layer in layers]
    )
    scale = (recipe.rate * size.sqrt() / len(layers))[:, None]
    moved = torch.zeros(len(layers), steering.nmd.shape[1], device=scale.device, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=1.0)  # a step of `scale` in every coordinate
    drawn = torch.Generator().manual_seed(recipe.seed)
    order = [
        _in_turn(len(part), recipe.rows // size, drawn)
        for part, size in ((turn, 1), *((s, 2) for s in stay))
    ]
    for step in range(1, recipe.steps + 1):
        with torch.enable_grad(), evaluating(steering.model), weights_at_rest(steering.model):
            delta = dict(zip(layers, scale * moved))
            rows = [next(some).to(scale.device) for some in order]
            loss = turn.unlikely(rows[0], delta)
            for part, some in zip(stay, rows[1:]):
                loss = loss + part.moved(some, delta)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        if step in recipe.stops:
            found = np.zeros(steering.nmd.shape)
            found[list(layers)] = (scale * moved).detach().cpu().numpy()
            yield step, found


def _in_turn(n: int, rows: int, drawn: torch.Generator) -> Iterator[torch.Tensor]:
    """Batches of `rows` of `n`, each row once before any comes again, in random order."""
    left = torch.empty(0, dtype=torch.long)
    rows = max(1, min(rows, n))
    while True:
        if len(left) < rows:
            left = torch.cat([left, torch.randperm(n, generator=drawn)])
        some, left = left[:rows], left[rows:]
        yield some


def layer_sets(n_layer: int) -> list[list[int]]:
    """Which layers are moved together, from 0: single ones, and all."""
    alone = range(n_layer) if n_layer <= FEW_LAYERS else [round(n_layer * at) - 1 for at in DEPTHS]
    return [[layer] for layer in alone] + ([[*range(n_layer)]] if n_layer > 1 else [])


def candidates(
    steering: Steering, direction: str, examples: Examples, recipe: Recipe
) -> list[tuple[np.ndarray, dict]]:
    """Vectors `[L, d]`, to be added as they are, with what is said of each; the smallest first."""
    steering = steering.once
    turn = Forced.of(steering, examples.turn, TARGET[direction])
    stay = [Forced.of(steering, rows, code) for rows, code in examples.stay if len(rows)]
    found = []
    for layers in layer_sets(len(steering.nmd)):
        for retained in [False, True] if stay else [False]:
            about: dict = {"layer": layers[0] + 1} if len(layers) == 1 else {"layers": "all"}
            about["retained"] = retained
            for steps, vector in fitted(layers, turn, stay if retained else [], recipe):
                found.append((vector, about | {"steps": steps}))
    return sorted(found, key=lambda one: float(np.linalg.norm(one[0])))


def optimised(trial: Trial, examples: Examples, recipe: Recipe, by: Yardstick) -> Rivals:
    """The best of the fitted vectors, by success alone and within the limits: see `rivals.best_of`.

    None without a step, or without a prompt to be turned.
    """
    if not recipe.steps or examples.turn.empty:
        return NO_RIVALS
    found = candidates(trial.steering, trial.direction, examples, recipe)
    shifts = SIGN[trial.direction] * np.stack([vector for vector, _ in found])
    about = [facts for _, facts in found]
    return best_of(trial, (OPTIMISED, OPTIMISED_KEPT), shifts, about, by)
