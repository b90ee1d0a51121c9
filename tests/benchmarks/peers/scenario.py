"""What every engine is given: one folder with a model, prompts, shifts and the answers looked for.

The model is a GPT-2 with random weights, saved as an ordinary folder of transformers; the prompts are
random words of one length, so that no engine needs padding. A cell is a shift of the residual stream
after the blocks: a planted direction, its largest neurons, times alpha, in all layers or in the upper
half. Which answers are looked for is planted, too: the unsteered one, and that under the direction
with some noise of each prompt's own, so that success depends on the cell.

Only `make` needs this package's `memgen`; `Scenario` is read in every engine's environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


@dataclass(frozen=True)
class Size:
    """Shape of a model, and how much is asked of it."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    initializer_range: float
    captured: int  # prompts whose states are read
    swept: int  # prompts that every cell is run on
    alphas: tuple[float, ...]
    top_ns: tuple[float, ...]
    batch: int  # rows in a batch
    tokens: int = 9  # length of a prompt
    new: int = 5  # longest answer


STUDY = (0.01, 0.05, 0.7, 1.0, 1.3)
#: by name: the study's model (preset laptop), GPT-2's shape, and one for the tests
SIZES = {
    "study": Size(4, 128, 4, 116, 0.2, 600, 300, STUDY, (0.5, 0.9), 300),
    "gpt2": Size(12, 768, 12, 50257, 0.02, 128, 24, (0.02, 0.7, 1.0), (0.9,), 64),
    "smoke": Size(2, 16, 2, 12, 0.3, 8, 6, (0.05, 1.0), (0.5,), 4, tokens=4, new=3),
}
POSITIONS = ("all", "decision")
STRENGTH, NOISE = 0.5, 0.05  # of the planted direction and of the noise, in spreads of the states
PAD, END = 0, 1


@dataclass(frozen=True)
class Scenario:
    """`ids` `[captured, T]`, `swept` `[P, T]`, `deltas` `[C, L, d]`, `candidates` `[P, 2, new]`.

    Candidates are padded with -1 behind the end token.
    """

    folder: Path
    ids: torch.Tensor
    swept: torch.Tensor
    deltas: torch.Tensor
    candidates: torch.Tensor
    new: int
    batch: int

    @classmethod
    def read(cls, folder: Path) -> Scenario:
        said = json.loads((folder / "scenario.json").read_text(encoding="utf8"))
        return cls(folder, **load_file(folder / "scenario.safetensors"), **said)

    @property
    def model(self) -> str:
        """The folder of the model."""
        return str(self.folder / "model")

    def codes(self, answers: torch.Tensor) -> torch.Tensor:
        """Which candidate the answers `[C, P, n]` are, int8 `[C, P]`: 0 and 1, or 2 for neither.

        What stands behind an end token, or is missing because all rows had ended, plays no part.
        """
        answers = torch.nn.functional.pad(answers, (0, self.new - answers.shape[-1]), value=END)
        ends = (answers == END).int()
        answers = answers.masked_fill(ends.cumsum(-1) - ends > 0, -1)
        first, second = ((answers == self.candidates[:, i]).all(-1) for i in (0, 1))
        return torch.where(first, 0, torch.where(second, 1, 2)).to(torch.int8)


def make(size: Size, folder: Path, seed: int = 0) -> Scenario:
    """Write a scenario of this size into `folder`, and read it back."""
    from benchmarks.peers.planting import plant  # here: it needs memgen, and the engines have none

    folder.mkdir(parents=True, exist_ok=True)
    tensors = plant(size, folder / "model", seed)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "scenario.safetensors")
    said = {"new": size.new, "batch": size.batch}
    (folder / "scenario.json").write_text(json.dumps(said), encoding="utf8")
    return Scenario.read(folder)
