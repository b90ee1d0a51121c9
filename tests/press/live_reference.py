"""What the JavaScript of the live page has to give: the same questions answered by PyTorch and by
the functions that the labs use.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file

from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import capture, position_ids, shift
from memgen.models.load import load_trained
from memgen.stages import PARAMETER_CLASSES
from memgen.steering.cells import Cell, cell_shift
from memgen.store.files import read_json
from memgen.tasks import TASKS, Instance, make_task
from memgen.terms import SIGN

SITE = "resid_post"


@dataclass(frozen=True)
class Setting:
    """One way of steering: a cell, the layers that are shifted (None: all), and the positions."""

    name: str
    direction: str
    cell: Cell
    layers: tuple[bool, ...] | None = None
    positions: str = "all"

    def as_json(self) -> dict:
        return {
            "direction": self.direction,
            "alpha": self.cell.alpha,
            "topN": self.cell.top_n,
            "layers": self.layers,
            "positions": self.positions,
        }


class Reference:
    """The model of a run folder with NMD, rho, probes and prompts, as PyTorch and the labs see
    them.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.model, self.tokenizer = load_trained(folder / "02_training")
        self.frame = pd.read_parquet(folder / "01_dataset_design" / "instances.parquet")
        self.answered = pd.read_parquet(folder / "03_pairs" / "answered.parquet")
        arrays = load_file(folder / "04_differentiation" / "arrays.safetensors")
        self.nmd, self.rho = arrays[f"nmd.{SITE}"], arrays[f"rho.{SITE}"]
        self.probe, self.best = (
            load_file(folder / "05_prediction" / "probe.safetensors"),
            read_json(folder / "05_prediction" / "result.json")["best_layer"],
        )
        self.steered = read_json(folder / "06_intervention" / "result.json")
        p = PARAMETER_CLASSES["01_dataset_design"](
            **read_json(folder / "01_dataset_design" / "manifest.json")["parameters"]
        )
        self.task = (
            make_task(p.task, p.n_keys, p.data_seed).fit(self.tokenizer, self.frame)
            if p.task in TASKS
            else None
        )

    def prompts(self, n: int) -> list[str]:
        """Conflict prompts, evenly over the run's own."""
        return list(_evenly(self.answered.drop_duplicates("prompt"), n).prompt)

    def instances(self, n: int) -> list[Instance]:
        """Conflict prompts and `n` prompts of every kind of the data set."""
        rows = [
            _evenly(self.answered, n),
            *(_evenly(self.frame[self.frame.kind == kind], n) for kind in self.frame.kind.unique()),
        ]
        names = list(Instance.__dataclass_fields__)
        return [
            Instance(*values)
            for part in rows
            for values in part[names].itertuples(index=False, name=None)
        ]

    @cached_property
    def settings(self) -> list[Setting]:
        """The chosen cells of both directions, and one of neither: other layers, other positions,
        another cell.
        """
        cells = {
            d: Cell(self.steered[d]["top_n"], self.steered[d]["alpha"]) for d in ("m2g", "g2m")
        }
        grid = read_json(self.folder / "06_intervention" / "manifest.json")["parameters"]
        upper = tuple(layer > 0 for layer in range(len(self.nmd)))
        other = Cell(grid["top_ns"][-1], grid["alphas"][len(grid["alphas"]) // 2])
        return [
            *(Setting(d, d, cell) for d, cell in cells.items()),
            Setting("m2g, upper layers, decision", "m2g", other, upper, "decision"),
        ]

    @cached_property
    def grid(self) -> list[Setting]:
        """All cells of lab 06 in both directions."""
        p = read_json(self.folder / "06_intervention" / "manifest.json")["parameters"]
        return [
            Setting("", d, Cell(top_n, alpha))
            for d in ("m2g", "g2m")
            for top_n in p["top_ns"]
            for alpha in p["alphas"]
        ]

    def delta(self, setting: Setting) -> np.ndarray:
        """`[n_layer, d_model]`, as lab 06 makes it."""
        delta = SIGN[setting.direction] * cell_shift(setting.cell, self.nmd, self.rho)
        return np.where(np.array(setting.layers)[:, None], delta, 0) if setting.layers else delta

    def steering(self, setting: Setting | None):
        if setting is None:
            return nullcontext()
        return shift(
            self.model,
            SITE,
            torch.from_numpy(np.ascontiguousarray(self.delta(setting), dtype=np.float32)),
            setting.positions,
        )

    @torch.inference_mode()
    def logits(self, prompts: list[str], setting: Setting | None) -> np.ndarray:
        """Logits of the first answer token, `[n, vocabulary]`."""
        ids, mask = tokenize_prompts(self.tokenizer, prompts)
        with self.steering(setting):
            return (
                self.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=position_ids(mask),
                    use_cache=False,
                )
                .logits[:, -1]
                .numpy()
            )

    def answers(self, prompts: list[str], setting: Setting | None) -> list[str]:
        with self.steering(setting):
            return answer(self.model, self.tokenizer, prompts, self.task.max_answer_tokens)

    def probe_scores(self, prompts: list[str], setting: Setting | None) -> np.ndarray:
        """Log odds of generalization by layer, `[n, n_layer]`."""
        with self.steering(setting):
            states = capture(
                self.model, *tokenize_prompts(self.tokenizer, prompts), site=SITE
            ).numpy()
        return (
            np.einsum("nld,ld->nl", states.astype(np.float64), self.probe["weight"])
            + self.probe["bias"]
        )

    @torch.inference_mode()
    def log_probability(self, prompt: str, text: str, setting: Setting | None) -> float:
        """Of the whole answer and the end mark, one token a pass, as it is generated."""
        ids, steps = (
            torch.tensor([self.tokenizer(words)["input_ids"]]) for words in (prompt, text)
        )
        total, cache = 0.0, None
        with self.steering(setting):
            for token in [*steps[0].tolist(), self.tokenizer.eos_token_id]:
                output = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
                total += float(output.logits[0, -1].log_softmax(-1)[token])
                ids, cache = torch.tensor([[token]]), output.past_key_values
        return total


def _evenly(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    return rows.iloc[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]
