"""How much slower is capturing the hidden states of all layers than a bare forward pass?

The bare pass is the model's own forward (with `lm_head`, without a key-value cache and without
hooks) on the same prompts in the same batches. Both run alternately; printed are medians over the
repeats.

    python tests/benchmarks/bench_capture.py
    python tests/benchmarks/bench_capture.py --model data/.../checkpoint --site mlp_out
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from memgen.models.hooks import capture
from memgen.terms import SITES

LIMIT = 1.3


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
    parser.add_argument("--site", default="all", choices=["all", *SITES])
    parser.add_argument("--prompts", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=9, help="length of a prompt")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.model:
        model = AutoModelForCausalLM.from_pretrained(
            args.model, attn_implementation=args.attention
        ).eval()
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=args.vocabulary,
                n_positions=max(64, args.tokens),
                n_embd=args.width,
                n_layer=args.layers,
                n_head=args.heads,
                activation_function="gelu_pytorch_tanh",
                bos_token_id=1,
                eos_token_id=1,
                attn_implementation=args.attention,
            )
        ).eval()
    input_ids = torch.randint(2, model.config.vocab_size, (args.prompts, args.tokens))

    def bare() -> None:
        with torch.inference_mode():
            for ids in input_ids.split(args.batch):
                model(ids, use_cache=False)

    def seconds(work) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    print(
        f"{args.prompts} prompts of {args.tokens} tokens, batch {args.batch}, {args.threads}"
        f" threads, {sum(p.numel() for p in model.parameters()):,} parameters, {args.attention}"
    )
    for site in SITES if args.site == "all" else [args.site]:
        pairs = [
            (
                seconds(bare),
                seconds(lambda: capture(model, input_ids, site=site, batch_size=args.batch)),
            )
            for _ in range(args.repeats + 1)
        ][1:]  # the first pair warms up
        bare_s, capture_s = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(c / b for b, c in pairs)
        print(
            f"{site:10s}  bare {bare_s:.3f} s  capture {capture_s:.3f} s  ratio {ratio:.2f} "
            f"({'within' if ratio <= LIMIT else 'ABOVE'} the limit of {LIMIT})"
        )


if __name__ == "__main__":
    main()
