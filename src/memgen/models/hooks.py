"""Read and shift hidden states while a model runs. A hook is gone after its `with` block.

>>> with record(model, "resid_post") as states:           # states[i]: [rows, positions, d_model] of layer i
...     model(input_ids)
>>> with shift(model, "resid_post", alpha * direction):   # [n_layer, d_model]
...     model.generate(input_ids, do_sample=False)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from memgen.models.room import in_order, passes
from memgen.models.sites import bare, site_modules
from memgen.phases import phase
from memgen.terms import POSITIONS


def vector_of(output):
    """A module's hidden state: transformers 5 returns it bare, older versions first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def with_vector(output, vector: torch.Tensor):
    """The same output with another hidden state in it."""
    return (vector, *output[1:]) if isinstance(output, tuple) else vector


@contextmanager
def hooked(modules: list[nn.Module], hooks: list) -> Iterator[None]:
    """`hooks[i]` (None: none) as a forward hook on `modules[i]`; all are removed on the way out."""
    with ExitStack() as stack:
        for module, hook in zip(modules, hooks, strict=True):
            if hook is not None:
                stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def record(model: nn.Module, site: str, last: bool = False) -> Iterator[list[torch.Tensor]]:
    """A list that every pass fills: item i is layer i's state, `[rows, positions, d_model]`.

    `last=True` keeps a copy of the last position only, `[rows, d_model]`, so that nothing else
    stays in memory. Shifts placed before are seen, those placed later are not.
    """
    modules = site_modules(model, site)
    states: list[torch.Tensor] = [None] * len(modules)

    def keep(layer: int):
        def hook(module, args, output):
            vector = vector_of(output)
            states[layer] = vector[:, -1].clone() if last else vector

        return hook

    with hooked(modules, [keep(layer) for layer in range(len(modules))]):
        yield states


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout inside the block; afterwards the model is in the mode it was in before."""
    training = model.training
    if not any(module.training for module in model.modules()):  # setting modes takes far longer
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def check_left_padded(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
    """`ValueError` if the mask does not fit the tokens or a row does not end with real tokens."""
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask {list(attention_mask.shape)} does not fit input_ids"
            f" {list(input_ids.shape)}"
        )
    if (attention_mask.long().diff(dim=-1) < 0).any() or not attention_mask[:, -1].all():
        raise ValueError("attention_mask: pad on the left; every row must end with real tokens")


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions in a left-padded batch, `[rows, positions]`: 0 at each row's first real token."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def capture(
    model: nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    site: str = "resid_post",
    batch_size: int = 512,
) -> torch.Tensor:
    """Hidden states of all layers at each row's last token (the decision position of a prompt).

    `input_ids`, `attention_mask`: `[n, positions]`, padded on the left. Returns float32 `[n,
    n_layer, d_model]` on the CPU. Only the trunk runs, without `lm_head`, and only the last
    position is copied out. Errors: `ValueError` for an unknown site or architecture, a mask that is
    not left-padded, a batch size below 1. `batch_size`: at most; fewer rows where they would not fit.
    """
    return capture_sites(model, input_ids, attention_mask, [site], batch_size)[site]


@phase("capture")
@torch.inference_mode()
def capture_sites(
    model: nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sites: Sequence[str],
    batch_size: int = 512,
) -> dict[str, torch.Tensor]:
    """The same of several sites in one pass, by site."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    check_left_padded(input_ids, attention_mask)
    core, done = bare(model), []
    captured: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
    with ExitStack() as stack:
        states = {site: stack.enter_context(record(model, site, last=True)) for site in sites}
        stack.enter_context(evaluating(model))
        for rows, column in passes(core, attention_mask, batch_size):
            mask = attention_mask[rows, column:].to(core.device)
            core.base_model(
                input_ids=input_ids[rows, column:].to(core.device),
                attention_mask=mask,
                position_ids=position_ids(mask),
                use_cache=False,
            )
            done.append(rows)
            for site, found in captured.items():
                found.append(torch.stack(states[site], dim=1).float().cpu())
    if not done:
        nothing = torch.empty(0, len(site_modules(model, sites[0])), core.config.hidden_size)
        return dict.fromkeys(sites, nothing)
    return {site: in_order(found, done) for site, found in captured.items()}


def check_delta(delta: torch.Tensor, n_layer: int, width: int) -> None:
    """Errors: `ValueError` if a shift is not finite or does not end in `[n_layer, d_model]`."""
    if delta.shape[-2:] != (n_layer, width):
        raise ValueError(
            f"delta {list(delta.shape)} does not end in [n_layer, d_model] = [{n_layer}, {width}]"
        )
    if not delta.isfinite().all():
        raise ValueError("delta is not finite: it holds NaN or infinity")


@contextmanager
def shift(
    model: nn.Module, site: str, delta: torch.Tensor, positions: str = "all"
) -> Iterator[None]:
    """Add `delta` to the hidden states of all layers at `site`, inside the `with` block.

    `delta`: `[n_layer, d_model]` for every row alike, or `[rows, n_layer, d_model]`. `positions`:

    * `"all"`: every position of every forward pass, so the prompt's tokens and the generated ones;
    * `"decision"`: the last position of every forward pass. With a key-value cache (the default of
      `generate`) the prompt is one pass and each new token is one, so the edits are at the last prompt
      token and at each generated token; the states of earlier prompt tokens stay as they are.

    A layer whose delta is zero gets no hook, so a zero shift (`alpha` 0) is the identity bit for
    bit, and so are all layers below the lowest edit. Errors: `ValueError` for an unknown site,
    architecture or value of `positions`, for a delta that is not finite or of another shape, and,
    in the forward pass, for one with another number of rows than the batch.
    """
    if positions not in POSITIONS:
        raise ValueError(
            f"positions {positions!r} is unknown; choose one of {', '.join(POSITIONS)}"
        )
    modules, core = site_modules(model, site), bare(model)
    if delta.ndim not in (2, 3):
        raise ValueError(
            f"delta {list(delta.shape)} is neither [n_layer, d_model] nor [rows, n_layer, d_model]"
        )
    check_delta(delta, len(modules), core.config.hidden_size)
    delta = delta.to(device=core.device, dtype=core.dtype)
    if delta.ndim == 2:
        delta = delta[None]

    def add(layer: int):
        if not delta[:, layer].any():
            return None
        step = delta[:, layer, None]  # [rows or 1, 1, d_model]

        def hook(module, args, output):
            vector = vector_of(output)  # [rows, positions, d_model]
            if len(step) not in (1, len(vector)):
                raise ValueError(f"delta has {len(step)} rows, the batch has {len(vector)}")
            if positions == "all":
                return with_vector(output, vector + step)
            return with_vector(output, torch.cat([vector[:, :-1], vector[:, -1:] + step], dim=1))

        return hook

    with hooked(modules, [add(layer) for layer in range(len(modules))]):
        yield
