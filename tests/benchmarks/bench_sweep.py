"""How fast is the steering sweep, next to bare forward passes, plain hooks + `generate`, and the
race?

Scenario: a random GPT-2 (or `--model FOLDER`), random prompts, and a planted direction over all
layers. What the model answers unsteered is one behaviour; what it answers under the direction
(times 1, plus noise that differs from prompt to prompt) is the other. The prompts are run in both
directions (m2g, then g2m with the sign turned). The grid is 8 alphas times 5 top_n, as in the
study: success rises and falls with alpha and depends on top_n.

Timed in CPU seconds, each over all rows = cells x prompts of both directions, one after another within
a repeat; medians are printed:

* bare prompt    the model's own forward over the prompts, in the sweep's batch size: no hooks, no
  new token
* bare decode    the same and one cached pass per further token of the answer (what `generate` must
  at least do)
* full, to the end   `run_cells` with `early_end=False`: the same rows and tokens as `bare decode`
* full           `run_cells`: the full grid as the study runs it
* race           `race`: the cell with most successes only, and how sure that is
* plain          hooks + `generate`, cell by cell (`--plain`; slow), whose answers must be those of
  `full`

    python tests/benchmarks/bench_sweep.py --plain
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from memgen.models.hooks import capture, shift
from memgen.steering.engine import Decoding, run_cells
from memgen.steering.prompts import Prompts
from memgen.steering.race import race
from memgen.terms import POSITIONS, SITES

FULL_LIMIT, PLAIN_LIMIT, RACE_LIMIT = 0.7, 2.0, 3.0
ALPHAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
TOP_N = (0.02, 0.05, 0.1, 0.25, 0.5)


def random_gpt2(args) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=args.vocabulary,
            n_positions=64,
            n_embd=args.width,
            n_layer=args.layers,
            n_head=args.heads,
            activation_function="gelu_pytorch_tanh",
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=0,
            initializer_range=0.2,
            attn_implementation=args.attention,
        )
    ).eval()


def cells_of(direction: torch.Tensor) -> torch.Tensor:
    """The grid of shifts, `[cells, n_layer, d_model]`: the largest `top_n` of the direction's
    entries, times alpha.
    """
    size = direction.abs().flatten().sort(descending=True).values
    masks = [direction.abs() >= size[round(top_n * len(size)) - 1] for top_n in TOP_N]
    return torch.stack([alpha * direction * mask for alpha in ALPHAS for mask in masks])


def generated(model, input_ids, args, delta) -> torch.Tensor:
    """Greedy answers of plain hooks + `generate`, `[P, new]`, padded with -1 after the end token."""
    end = model.config.eos_token_id
    with shift(model, args.site, delta, args.positions):
        new = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            do_sample=False,
            max_new_tokens=args.new,
            eos_token_id=end,
            pad_token_id=end,
        )[:, input_ids.shape[1] :]
    new = torch.nn.functional.pad(new, (0, args.new - new.shape[1]), value=end)
    ends = (new == end).int()
    return new.masked_fill(ends.cumsum(-1) - ends > 0, -1)


def scenario(model, args):
    """Per direction: prompts with both candidates, the grid, and the code of a success."""
    g = torch.Generator().manual_seed(args.seed)
    input_ids = torch.randint(2, model.config.vocab_size, (args.prompts, args.tokens), generator=g)
    states = capture(model, input_ids, site=args.site)  # [P, L, d]
    # few large entries and many small ones, in units of the spread of the hidden states
    unit = torch.randn(states.shape[1:], generator=g) ** 3 * states.std(0) * args.strength
    unsteered = generated(model, input_ids, args, 0 * unit)
    sets = []
    for sign, target in ((1, 1), (-1, 0)):
        noise = torch.randn(states.shape, generator=g) * states.std(0) * args.noise
        flipped = generated(model, input_ids, args, sign * unit + noise)
        pair = (unsteered, flipped) if target == 1 else (flipped, unsteered)
        usable = (unsteered != flipped).any(-1)
        prompts = Prompts(input_ids, torch.ones_like(input_ids), torch.stack(pair, dim=1))[usable]
        sets.append((prompts, cells_of(sign * unit), target))
    return sets


@torch.inference_mode()
def bare(model, sets, args, new: int) -> None:
    for prompts, deltas, _ in sets:
        rows = prompts.input_ids.repeat(len(deltas), 1)
        for ids in rows.split(args.rows):
            out = model(ids, use_cache=new > 1, logits_to_keep=1)
            for _ in range(new - 1):
                ids = out.logits[:, -1:].argmax(-1)
                out = model(ids, past_key_values=out.past_key_values, use_cache=True)


def plain(model, sets, args) -> list[torch.Tensor]:
    codes = []
    for prompts, deltas, _ in sets:
        new = torch.stack([generated(model, prompts.input_ids, args, delta) for delta in deltas])
        memory, rule = ((new == prompts.candidates[:, i]).all(-1) for i in (0, 1))
        codes.append(torch.where(memory, 0, torch.where(rule, 1, 2)).to(torch.int8))
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of a transformers model (default: a random GPT-2)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=16)
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
    parser.add_argument("--site", default="resid_post", choices=SITES)
    parser.add_argument("--positions", default="all", choices=POSITIONS)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=9, help="length of a prompt")
    parser.add_argument("--new", type=int, default=5, help="longest answer in tokens")
    parser.add_argument("--strength", type=float, default=0.15, help="of the planted direction")
    parser.add_argument("--noise", type=float, default=0.05, help="of the prompts' own shifts")
    parser.add_argument("--rows", type=int, default=512, help="rows per batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--plain", action="store_true", help="also time hooks + generate and compare its answers"
    )
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.model:
        model = AutoModelForCausalLM.from_pretrained(
            args.model, attn_implementation=args.attention
        ).eval()
    else:
        model = random_gpt2(args)
    sets = scenario(model, args)
    decoding = Decoding(args.site, args.positions, args.new, rows_per_batch=args.rows)
    to_the_end = replace(decoding, early_end=False)
    works = {
        "bare prompt": lambda: bare(model, sets, args, 1),
        "bare decode": lambda: bare(model, sets, args, args.new),
        "full, to the end": lambda: [run_cells(model, p, d, to_the_end) for p, d, _ in sets],
        "full": lambda: [run_cells(model, p, d, decoding) for p, d, _ in sets],
        "race": lambda: [race(model, p, d, target, decoding) for p, d, target in sets],
    }
    if args.plain:
        works["plain"] = lambda: plain(model, sets, args)
    works["full"](), works["race"]()  # warm up
    seconds, results = {name: [] for name in works}, {}
    for _ in range(args.repeats):
        for name, work in works.items():
            start = time.process_time()
            results[name] = work()
            seconds[name].append(time.process_time() - start)

    def ratio(name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[name], seconds[base]))

    n_rows = sum(len(p) * len(d) for p, d, _ in sets)
    print(
        f"{sum(q.numel() for q in model.parameters()):,} parameters, {args.attention},"
        f" {args.threads} threads; {args.site}, {args.positions}; {n_rows} rows of"
        f" {args.tokens}+{args.new} tokens, {args.rows} a batch"
    )
    for name in works:
        print(
            f"{name:17s} {statistics.median(seconds[name]):7.2f} s  "
            f" {ratio(name, 'bare decode'):5.2f} x bare decode   {ratio(name, 'bare prompt'):5.2f}"
            f" x bare prompt   {1 / ratio(name, 'full'):5.2f} x as fast as full"
        )
    agree = True
    for (prompts, _, target), codes, raced in zip(sets, results["full"], results["race"]):
        successes = (codes == target).sum(-1)
        best = int(successes.argmax())
        near = int((successes >= successes.max() - 0.05 * len(prompts)).sum())
        agree &= raced.best == best
        print(
            f"{'m2g' if target else 'g2m'}: {len(prompts)} prompts, best cell {best} with"
            f" {successes.max() / len(prompts):.2f}, median cell"
            f" {successes.median() / len(prompts):.2f}, {near} cells within 0.05; race chose"
            f" {raced.best} on {raced.rows_run} of {codes.numel()} rows, chance of having lost the best"
            f" {raced.risk:.3f}"
        )
    print(
        f"full grid at most {FULL_LIMIT} x bare decode:"
        f" {ratio('full', 'bare decode') <= FULL_LIMIT}; race at least {RACE_LIMIT:.0f} x as fast"
        f" as full: {1 / ratio('race', 'full') >= RACE_LIMIT}; same cell: {agree}"
    )
    same = all(torch.equal(a, b) for a, b in zip(results["full"], results["full, to the end"]))
    print(f"same answers with and without early ends: {same}")
    if args.plain:
        print(
            f"full at least {PLAIN_LIMIT:.0f} x as fast as plain hooks + generate:"
            f" {ratio('plain', 'full') >= PLAIN_LIMIT}"
        )
        differ = sum(int((a != b).sum()) for a, b in zip(results["full"], results["plain"]))
        print(f"answers that differ from plain hooks + generate: {differ} of {n_rows}")


if __name__ == "__main__":
    main()
