"""Steering: choose a cell on validation keys, score it once on test keys, beside its controls,
ablations and side effects.

The paper's formula, on the `top_n` neurons by |rho|, all layers at once: h <- h + alpha * sign(rho)
* |NMD| towards generalization (`m2g`), and the same with the opposite sign towards memorization
(`g2m`). What a prompt would have answered unsteered is known from the pairs stage, so `m2g` runs on
prompts answered from memory only, `g2m` on those answered by the rule.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from .behavior import CODE, accuracy, answer, first_token_log_probabilities, tokenize_prompts
from .config import InterventionParameters
from .differentiation import control_shifts, select_top, shift_vector
from .errors import StudyError
from .hooks import shift
from .intervals import wilson
from .pairs import flip_rates, rephrased
from .sites import SITES
from .sweep import Prompts, make_prompts, race, run_cells
from .tasks import BEHAVIORS, Task, instances
from .training import spread

DIRECTIONS = ("m2g", "g2m")
SIGN = {"m2g": 1.0, "g2m": -1.0}
START = {"m2g": "memorization", "g2m": "generalization"}
TARGET = {"m2g": CODE["generalization"], "g2m": CODE["memorization"]}


@dataclass(frozen=True)
class Cell:
    """One setting of the sweep: which share of the neurons, and how far."""

    top_n: float
    alpha: float


def grid(alphas: list[float], top_ns: list[float], nmd: np.ndarray, rho: np.ndarray) -> list[Cell]:
    """All cells, the smallest shift first, so that of two equally good cells the gentler one is
    chosen.
    """
    cells = [Cell(top_n, alpha) for top_n in top_ns for alpha in alphas]
    return sorted(cells, key=lambda c: (np.linalg.norm(cell_shift(c, nmd, rho)), c.top_n, c.alpha))


def cell_shift(cell: Cell, nmd: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """`alpha * sign(rho) * |NMD|` on the cell's neurons, `[n_layer, d_model]`, towards
    generalization.
    """
    return cell.alpha * shift_vector(nmd, rho, select_top(rho, cell.top_n))


def steering_prompts(
    answered: pd.DataFrame, split: str, direction: str, limit: int
) -> pd.DataFrame:
    """The conflict prompts of a split that the unsteered model answers with the behaviour to be
    changed.
    """
    chosen = answered[(answered.split == split) & (answered.behavior == START[direction])]
    return spread(
        chosen.sort_values(["key", "group", "rephrasing"], kind="stable").drop_duplicates("prompt"),
        limit,
    )


def as_prompts(tokenizer, rows: pd.DataFrame) -> Prompts:
    return make_prompts(
        tokenizer, list(rows.prompt), list(rows.memory_answer), list(rows.rule_answer)
    )


class Steering:
    """One model with its NMD and rho at one site; runs stacks of shifts on prompts. Shifts are
    `[cells, n_layer, d_model]`.
    """

    def __init__(
        self,
        model,
        tokenizer,
        task: Task,
        site: str,
        nmd: np.ndarray,
        rho: np.ndarray,
        positions: str = "all",
    ):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.site, self.nmd, self.rho, self.positions = site, nmd, rho, positions

    def prompts(self, rows: pd.DataFrame) -> Prompts:
        return as_prompts(self.tokenizer, rows).to(self.model.device)

    def choose(self, cells: list[Cell], rows: pd.DataFrame, direction: str):
        """Race the cells on these (validation) prompts; `(chosen cell, table of the race)`."""
        shifts = SIGN[direction] * np.stack([cell_shift(c, self.nmd, self.rho) for c in cells])
        outcome = race(
            self.model,
            self.prompts(rows),
            self._tensor(shifts),
            TARGET[direction],
            site=self.site,
            positions=self.positions,
            **self._decoding(),
        )
        table = pd.DataFrame(
            [(c.top_n, c.alpha) for c in cells], columns=["top_n", "alpha"]
        ).assign(successes=np.asarray(outcome.successes), evaluated=np.asarray(outcome.evaluated))
        return cells[outcome.best], table

    def outcomes(
        self, shifts: np.ndarray, rows: pd.DataFrame, positions: str | None = None
    ) -> np.ndarray:
        """Behaviour codes `[cells, prompts]` under each shift (already signed for its direction)."""
        return np.asarray(
            run_cells(
                self.model,
                self.prompts(rows),
                self._tensor(shifts),
                site=self.site,
                positions=positions or self.positions,
                **self._decoding(),
            )
        )

    def _tensor(self, shifts: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(shifts, dtype=np.float32)).to(
            self.model.device
        )

    def _decoding(self) -> dict:
        return {
            "max_new_tokens": self.task.max_answer_tokens,
            "eos_token_id": self.tokenizer.eos_token_id,
        }


def summary(codes: np.ndarray, direction: str) -> dict:
    """Success, Wilson interval, share of `other` and n of one cell's outcomes (any shape)."""
    codes = np.asarray(codes).ravel()
    wins = int((codes == TARGET[direction]).sum())
    return {
        "success": wins / len(codes) if len(codes) else 0.0,
        "interval": list(wilson(wins, len(codes))),
        "other": float((codes == CODE["other"]).mean()) if len(codes) else 0.0,
        "n": len(codes),
    }


def controls(
    steering: Steering,
    cell: Cell,
    rows: pd.DataFrame,
    direction: str,
    states: tuple[np.ndarray, np.ndarray],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every control at the cell's N and norm: one row a control, and one row an answer. `states`:
    hidden states of the memory and rule halves of the train pairs.
    """
    reference = cell_shift(cell, steering.nmd, steering.rho)
    drawn = control_shifts(reference, steering.nmd, steering.rho, *states, rng=rng, n_draws=n_draws)
    names = [name for name, stack in drawn.items() for _ in stack]
    shifts = np.stack([one for stack in drawn.values() for one in stack])
    codes = steering.outcomes(SIGN[direction] * shifts, rows)
    names = np.array(names)
    table = pd.DataFrame(
        [
            {
                "control": name,
                "draws": int((names == name).sum()),
                **summary(codes[names == name], direction),
            }
            for name in drawn
            if (names == name).any()
        ]
    )
    return table, pd.concat(
        [outcome_rows(name, one, rows, direction) for name, one in zip(names, codes)]
    )


def outcome_rows(kind: str, codes: np.ndarray, rows: pd.DataFrame, direction: str) -> pd.DataFrame:
    """One row an answer, with its key: what an interval over keys is computed from."""
    return pd.DataFrame(
        {
            "direction": direction,
            "kind": kind,
            "key": rows.key.to_numpy(),
            "success": codes == TARGET[direction],
        }
    )


def side_effects(
    steering: Steering,
    delta: np.ndarray,
    free: pd.DataFrame,
    keyed: pd.DataFrame,
    conflict: pd.DataFrame,
) -> dict:
    """What the (signed) shift costs: accuracy on free and keyed prompts, and mean KL(unsteered ||
    steered) in nats of the first answer token.
    """
    found = {}
    ids, mask = tokenize_prompts(steering.tokenizer, list(conflict.prompt))
    for when, context in (
        ("before", contextlib.nullcontext()),
        (
            "after",
            shift(steering.model, steering.site, steering._tensor(delta), steering.positions),
        ),
    ):
        with context:
            for name, rows in (("free", instances(free)), ("keyed", instances(keyed))):
                texts = answer(
                    steering.model,
                    steering.tokenizer,
                    [r.prompt for r in rows],
                    steering.task.max_answer_tokens,
                )
                found[f"{name}_accuracy_{when}"] = accuracy(rows, texts)
            found[when] = first_token_log_probabilities(steering.model, ids, mask)
    before, after = found.pop("before"), found.pop("after")
    return {**found, "kl": float((before.exp() * (before - after)).sum(-1).mean())}


# -- the whole stage -------------------------------------------------------------------------------
def study(
    steering: Steering,
    p: InterventionParameters,
    answered: pd.DataFrame,
    frame: pd.DataFrame,
    arrays: dict[str, np.ndarray],
):
    """Both directions from the race to the side effects: `(result, tables, seconds)` of the stage.

    `arrays`: the differentiation stage's. Cells are chosen on validation keys; everything that is
    reported comes from test keys.
    """
    began, result = (
        time.monotonic(),
        {
            "site": p.site,
            "positions": p.positions,
            "identity_holds": True,
            "race_rows": 0,
            "grid_rows": 0,
        },
    )
    tables: dict[str, list[pd.DataFrame]] = {
        "races": [],
        "controls": [],
        "doses": [],
        "ablations": [],
        "outcomes": [],
    }
    cells, floor = grid(p.alphas, p.top_ns, steering.nmd, steering.rho), flip_rates(answered)
    others = rephrased(answered)
    free = spread(frame[(frame.kind == "free") & (frame.split == "test")], p.n_side_effect_prompts)
    keyed = spread(frame[frame.kind == "keyed"], p.n_side_effect_prompts)
    for direction in DIRECTIONS:
        rng = np.random.default_rng([p.seed, DIRECTIONS.index(direction)])
        tuning, rows = (
            steering_prompts(answered, split, direction, p.n_prompts)
            for split in ("validation", "test")
        )
        if tuning.empty or rows.empty:
            raise StudyError(
                f"direction {direction}: no {START[direction]} answers on"
                f" {'validation' if tuning.empty else 'test'} keys to steer; raise"
                " n_conflict_per_key, or train with a stricter gate"
            )
        cell, race_table = steering.choose(cells, tuning, direction)
        tables["races"].append(race_table.assign(direction=direction))
        result["race_rows"] += int(race_table.evaluated.sum())
        result["grid_rows"] += len(cells) * len(tuning)

        delta = cell_shift(cell, steering.nmd, steering.rho)
        nothing, steered = steering.outcomes(SIGN[direction] * np.stack([0 * delta, delta]), rows)
        result["identity_holds"] &= bool((nothing == CODE[START[direction]]).all())
        found = summary(steered, direction)
        control, outcomes = controls(
            steering,
            cell,
            rows,
            direction,
            (arrays["memory"], arrays["rule"]),
            p.n_control_draws,
            rng,
        )
        turned = others[(others.split == "test") & (others.before == START[direction])]
        tables["outcomes"] += [
            outcome_rows("steered", steered, rows, direction),
            outcomes,
            outcome_rows("rephrasing", turned.behavior.map(CODE).to_numpy(), turned, direction),
        ]
        flip = floor[(floor.split == "test") & (floor.direction == direction)].iloc[0]
        result[direction] = {
            "alpha": cell.alpha,
            "top_n": cell.top_n,
            **found,
            "n_keys": int(rows.key.nunique()),
            "validation_success": float(
                race_table.successes[cells.index(cell)] / race_table.evaluated[cells.index(cell)]
            ),
            "controls": dict(zip(control.control, control.success)),
            "control_interval": dict(zip(control.control, control.interval)),
            "control_n": dict(zip(control.control, control.n)),
            "rephrase_floor": float(flip.rate),
            "rephrase_n": int(flip.n),
            **side_effects(steering, SIGN[direction] * delta, free, keyed, rows),
        }
        bars = [
            ("steered", found),
            *((row.control, row._asdict()) for row in control.itertuples(index=False)),
            (
                "rephrasing",
                {"success": flip.rate, "interval": wilson(flip.flipped, flip.n), "n": flip.n},
            ),
        ]
        tables["controls"].append(
            pd.DataFrame(
                [
                    {
                        "name": name,
                        "success": x["success"],
                        "low": x["interval"][0],
                        "high": x["interval"][1],
                        "n": int(x["n"]),
                        "direction": direction,
                    }
                    for name, x in bars
                ]
            )
        )
        tables["doses"].append(doses(steering, cell, p.alphas, rows, direction, rng))
        tables["ablations"].append(ablations(steering, cell, p, tuning, rows, direction, arrays))
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    return (
        result,
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        seconds,
    )


def doses(
    steering: Steering,
    cell: Cell,
    alphas: list[float],
    rows: pd.DataFrame,
    direction: str,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Shares of the three behaviours along alpha, for the chosen neurons and for as many random
    ones with the same values.
    """
    one = cell_shift(Cell(cell.top_n, 1.0), steering.nmd, steering.rho)
    steps = [0.0, *alphas]
    stack = [a * v for v in (one, random_shift(one, rng)) for a in steps]
    codes = steering.outcomes(SIGN[direction] * np.stack(stack), rows)
    shares = [np.bincount(row, minlength=3) / len(row) for row in codes]
    kinds = ["steered"] * len(steps) + ["random"] * len(steps)
    return pd.DataFrame(
        [
            {
                "direction": direction,
                "kind": kind,
                "alpha": alpha,
                **dict(zip(BEHAVIORS, share)),
                "n": len(rows),
            }
            for kind, alpha, share in zip(kinds, steps * 2, shares)
        ]
    )


def ablations(
    steering: Steering,
    cell: Cell,
    p: InterventionParameters,
    tuning: pd.DataFrame,
    rows: pd.DataFrame,
    direction: str,
    arrays: dict[str, np.ndarray],
) -> pd.DataFrame:
    """The chosen shift reduced to one layer, or without one; decision position only; and every
    other site, tuned anew on validation keys.
    """
    whole = cell_shift(cell, steering.nmd, steering.rho)
    named = {"as chosen": whole}
    for layer in range(len(whole)):
        only = np.zeros_like(whole)
        only[layer] = whole[layer]
        named[f"layer {layer + 1} only"] = only
    for layer in range(len(whole)):
        named[f"all but layer {layer + 1}"] = np.where(
            np.arange(len(whole))[:, None] == layer, 0, whole
        )
    codes = list(steering.outcomes(SIGN[direction] * np.stack(list(named.values())), rows))
    names = list(named)
    names.append("decision position only" if steering.positions == "all" else "all positions")
    codes.append(
        steering.outcomes(
            SIGN[direction] * whole[None],
            rows,
            positions="decision" if steering.positions == "all" else "all",
        )[0]
    )
    for site in SITES:
        if site != steering.site:
            other = Steering(
                steering.model,
                steering.tokenizer,
                steering.task,
                site,
                arrays[f"nmd.{site}"],
                arrays[f"rho.{site}"],
                steering.positions,
            )
            best, _ = other.choose(
                grid(p.alphas, [cell.top_n], other.nmd, other.rho), tuning, direction
            )
            names.append(f"site {site}")
            codes.append(
                other.outcomes(
                    SIGN[direction] * cell_shift(best, other.nmd, other.rho)[None], rows
                )[0]
            )
    found = [summary(row, direction) for row in codes]
    return pd.DataFrame(
        [
            {
                "ablation": name,
                "direction": direction,
                "success": x["success"],
                "low": x["interval"][0],
                "high": x["interval"][1],
                "other": x["other"],
                "n": x["n"],
            }
            for name, x in zip(names, found)
        ]
    )


def random_shift(reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The reference's values dealt to as many random coordinates: same N, same norm, other neurons."""
    shift = np.zeros(reference.size, dtype=reference.dtype)
    values = reference[reference != 0]
    shift[rng.choice(reference.size, len(values), replace=False)] = rng.permutation(values)
    return shift.reshape(reference.shape)
