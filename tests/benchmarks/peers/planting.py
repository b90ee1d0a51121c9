"""A scenario's model, prompts, shifts and answers, drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.peers.scenario import END, NOISE, PAD, STRENGTH, Size
from memgen.models.build import build_model, save_model
from memgen.models.hooks import capture, shift
from memgen.models.load import load_model


def words(n: int) -> PreTrainedTokenizerFast:
    """`n` tokens: padding, end, and words parted by spaces."""
    named = ["<pad>", "<eos>", *(f"w{i}" for i in range(2, n))]
    backend = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(named)}, unk_token="<pad>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=named[PAD], eos_token=named[END], padding_side="left"
    )


def random_model(size: Size, folder: Path, seed: int):
    """Save a GPT-2 of this shape with random weights, load it as a study does: `(model, tokenizer)`."""
    tokenizer = words(size.vocabulary)
    model = build_model(
        tokenizer,
        n_layer=size.layers,
        n_embd=size.width,
        n_head=size.heads,
        n_positions=max(32, size.tokens + size.new),
        initializer_range=size.initializer_range,
        seed=seed,
    )
    save_model(folder, model, tokenizer)
    return load_model(folder)


def cells(direction: torch.Tensor, size: Size) -> torch.Tensor:
    """The shifts `[C, L, d]`: largest entries times alpha, in all layers, then in the upper half."""
    found = []
    for layers in (direction, direction.clone()):
        if found:
            layers[: len(layers) // 2] = 0
        entries = layers.abs().flatten().sort(descending=True).values
        for top_n in size.top_ns:
            least = entries[max(0, round(top_n * int((entries > 0).sum())) - 1)]
            kept = layers * (layers.abs() >= least)
            found += [alpha * kept for alpha in size.alphas]
    return torch.stack(found)


@torch.inference_mode()
def answers(model, ids: torch.Tensor, delta: torch.Tensor, new: int) -> torch.Tensor:
    """Greedy answers under a shift, `[P, new]`, -1 behind the end token."""
    with shift(model, "resid_post", delta):
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new
        )[:, ids.shape[1] :]
    found = torch.nn.functional.pad(found, (0, new - found.shape[1]), value=END)
    ends = (found == END).int()
    return found.masked_fill(ends.cumsum(-1) - ends > 0, -1)


def plant(size: Size, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """What `Scenario` holds; the model goes to `folder`."""
    model, _ = random_model(size, folder, seed)
    draws = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, size.vocabulary, (size.captured, size.tokens), generator=draws)
    states = capture(model, ids, batch_size=size.batch)  # [n, L, d]
    spread = states.std(0)
    # few large entries and many small ones: a third power of normal draws
    direction = torch.randn(states.shape[1:], generator=draws) ** 3 * spread * STRENGTH
    swept = ids[: size.swept]
    noise = torch.randn(swept.shape[0], *spread.shape, generator=draws) * spread * NOISE
    pair = [answers(model, swept, delta, size.new) for delta in (0 * direction, direction + noise)]
    return {
        "ids": ids,
        "swept": swept.clone(),
        "deltas": cells(direction, size),
        "candidates": torch.stack(pair, dim=1),
    }
