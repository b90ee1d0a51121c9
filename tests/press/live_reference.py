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

from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import capture, position_ids, shift
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.output_controls import answered_from, forbidding
from memgen.steering.steering import Steering
from memgen.store.reader import FinishedRun
from memgen.tasks import Instance
from memgen.terms import BEHAVIORS, CODE, DIRECTIONS, SIGN, START

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
        run = self.run = FinishedRun(folder)
        steering = self.whole = Steering.of(run, SITE, "all")
        self.model, self.tokenizer, self.task = steering.model, steering.tokenizer, steering.task
        self.nmd, self.rho = steering.nmd, steering.rho
        self.frame, self.answered = run.dataset(), run.answered()
        self.probe = run["05_prediction"].arrays("probe")
        self.steered = run["06_intervention"]

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
        chosen = {d: self.steered.result[d] for d in DIRECTIONS}
        p = self.steered.parameters
        upper = tuple(layer > 0 for layer in range(len(self.nmd)))
        other = Cell(p.top_ns[-1], p.alphas[len(p.alphas) // 2])
        return [
            *(Setting(d, d, Cell(cell["top_n"], cell["alpha"])) for d, cell in chosen.items()),
            Setting("m2g, upper layers, decision", "m2g", other, upper, "decision"),
        ]

    @cached_property
    def grid(self) -> list[Setting]:
        """All cells of lab 06 in both directions."""
        p = self.steered.parameters
        cells = [Cell(top_n, alpha) for top_n in p.top_ns for alpha in p.alphas]
        return [Setting("", d, cell) for d in DIRECTIONS for cell in cells]

    @cached_property
    def vectors(self) -> dict[str, dict[str, np.ndarray]]:
        """By method and direction what lab 13 chose and kept, `[L, d]`; nothing where it did not run."""
        stage, found = self.run["13_scoreboard"], {}
        for name in ("optimised_retained", "caa") if stage.exists else ():
            rows = {d: stage.result[d]["rows"][name] for d in DIRECTIONS}
            choice = {d: "kept" if rows[d]["kept"] else "max" for d in DIRECTIONS}
            kept = stage.arrays("shifts")
            found[name] = {d: kept[f"{name}.{d}.{choice[d]}"] for d in DIRECTIONS}
        return found

    def forbidden(self, rows: pd.DataFrame, direction: str) -> list[str]:
        """Behaviours where the answer may not begin with the first token of the one that is turned."""
        prompts = self.whole.prompts(rows)
        source = prompts.candidates[:, CODE[START[direction]], 0].cpu()
        codes = answered_from(self.whole, prompts, forbidding(source))
        return [BEHAVIORS[code] for code in codes]

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
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": position_ids(mask)}
        with self.steering(setting):
            return self.model(**given, use_cache=False).logits[:, -1].numpy()

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

    def log_probability(self, prompt: str, text: str, setting: Setting | None) -> float:
        """Of the whole answer and the end mark, in nats."""
        ids = self._ids(text)
        return sum(float(x[i]) for x, i in zip(self._steps(prompt, ids, setting), ids))

    def is_tie(self, prompt: str, one: str, other: str, setting: Setting | None) -> bool:
        """Do two answers part at tokens that are equally probable as far as single precision tells?"""
        one, other = self._ids(one), self._ids(other)
        apart = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), None)
        if apart is None:
            return False
        log = self._steps(prompt, one, setting)[apart]
        return abs(float(log[one[apart]] - log[other[apart]])) < 1e-4

    def _ids(self, text: str) -> list[int]:
        return [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]

    @torch.inference_mode()
    def _steps(self, prompt: str, tokens: list[int], setting: Setting | None) -> list[torch.Tensor]:
        """Log-probabilities `[vocabulary]` of every token after the prompt and the tokens before it,
        one token a pass, as an answer is generated.
        """
        ids, found, cache = torch.tensor([self.tokenizer(prompt)["input_ids"]]), [], None
        with self.steering(setting):
            for token in tokens:
                output = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
                found.append(output.logits[0, -1].log_softmax(-1))
                ids, cache = torch.tensor([[token]]), output.past_key_values
        return found


def _evenly(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    return rows.iloc[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]
