"""Lab 12: which part of a run, moved to another prompt's run, takes the behaviour with it?

Parts are ranked on pairs of train keys; the map and the best few are reported on pairs of test
keys. Necessity and MLP units have modules of their own, `memgen.labs.necessity` and
`memgen.labs.units`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.causal import PatchingParameters
from memgen.labs.necessity import Costs, mean_of_train, necessity
from memgen.labs.swaps import SOURCES, Bench, other_sources, pairs_to_swap
from memgen.labs.units import UnitSteering, compare_units
from memgen.stats.intervals import number, weighted_mean
from memgen.stats.reported import between, by_key, shown
from memgen.steering.cells import Cell
from memgen.steering.editing import Written
from memgen.steering.patching import (
    KINDS,
    SMALL,
    Interchange,
    Part,
    margin_change,
    parts_of,
    recovered,
)
from memgen.steering.steering import Steering
from memgen.store.artifacts import Result
from memgen.terms import CODE, DIRECTIONS, OTHER_CODE, SIGN, START, TARGET

__all__ = ["Cell", "Costs", "Steering", "UnitSteering", "compare_units", "gathered", "localized"]
__all__ += ["mean_of_train", "necessity", "pairs_to_swap"]

#: the numbers of what was not measured, since there was no pair, no such part or no such source
TURNED = dict.fromkeys(("success", "interval", "other")) | {"n": 0, "n_keys": 0}
MEASURED = TURNED | {"margin": None, "recovered": None, "n_margin": 0}
FOREIGN = TURNED | {"source_answer": None, "n_source_answer": 0}


# -- the map ---------------------------------------------------------------------------------------
def map_parts(bench: Bench, parts: list[Part], seed: int) -> pd.DataFrame:
    """One row a part: flip rate with its interval over keys, `other`, n, and what became of the margin.

    `margin`: mean change in logits towards the source's behaviour, over the `n_margin` pairs whose
    answers begin differently; `recovered`: as share of the way to the source's margin. Layers and
    heads count from 0.
    """
    every = bench.exchange.each([[part] for part in parts])
    rows = []
    for part, written in zip(parts, every, strict=True):
        found = measured(bench, written, seed)
        low, high = found.pop("interval") or (None, None)
        place = {"kind": part.kind, "layer": part.layer, "head": part.head}
        rows.append(place | {"position": part.position} | found | {"low": low, "high": high})
    return pd.DataFrame(rows)


def measured(bench: Bench, written: Written, seed: int) -> dict:
    """What patched runs show: flips, and what became of the margin."""
    exchange, towards = bench.exchange, SIGN[bench.direction]
    change = margin_change(exchange, written, towards)
    known = ~np.isnan(change)
    return turned(bench, written, seed) | {
        "margin": number(change[known].mean()) if known.any() else None,
        "recovered": recovered(exchange, change, towards),
        "n_margin": int(known.sum()),
    }


def turned(bench: Bench, written: Written, seed: int) -> dict:
    """Share of targets that show the source's behaviour, `other`, n, and an interval over keys."""
    codes = written.codes(bench.exchange.target)
    hits = (codes == TARGET[bench.direction]).astype(float)
    found = by_key(weighted_mean, bench.keys, hits, seed=seed)
    other = float((codes == OTHER_CODE).mean())
    return {"success": found.pop("value"), "other": other} | found


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The map of train keys, best first: most flips, then the margin, then the lower layer."""
    known = table.assign(tie=table.recovered.astype(float).fillna(-np.inf))
    order = ["success", "tie", "layer", "head"]
    return known.sort_values(order, ascending=[False, False, True, True], kind="stable")


def as_part(row) -> Part:
    position = None if pd.isna(row.position) else int(row.position)
    return Part(row.kind, int(row.layer), int(row.head), position)


def best_of_kinds(train: pd.DataFrame) -> dict[str, Part]:
    """By kind the part that turns most train pairs.

    Of the residual stream the last layer is left out: what is written follows from it, whatever
    the model does.
    """
    last, order = train.layer.max(), ranked(train)
    found = {}
    for kind in KINDS:
        rows = order[order.kind == kind]
        if kind.startswith("residual"):
            rows = rows[rows.layer < last]
        if len(rows):
            found[kind] = as_part(next(rows.itertuples()))
    return found


def best_small(train: pd.DataFrame, n: int) -> list[Part]:
    """The n heads, attention and MLP layers that turn most train pairs."""
    order = ranked(train[train.kind.isin(SMALL)])
    return [as_part(row) for row in order.head(n).itertuples()]


def best_heads(train: pd.DataFrame, n: int) -> list[Part]:
    return [as_part(row) for row in ranked(train[train.kind == "head"]).head(n).itertuples()]


# -- confirmed on test keys ------------------------------------------------------------------------
def unconfirmed(kind: str) -> dict:
    """What stands for a kind of which nothing could be chosen or tried."""
    nowhere = {"name": "none", "kind": kind, "layer": None, "head": None, "position": None}
    none = {"train": None, "n_train": 0, "controls": dict.fromkeys(SOURCES, FOREIGN)}
    return nowhere | none | MEASURED


def described(part: Part) -> dict:
    """A part for a `result.json`: layer and head from 1, the position from the end."""
    head = part.head + 1 if part.head >= 0 else None
    place = {"layer": part.layer + 1, "head": head, "position": part.position}
    what = f", head {head}" if head else f", position {part.position}"
    name = f"layer {part.layer + 1}{what if part.kind in ('head', 'position') else ''}"
    return {"name": name, "kind": part.kind} | place


def confirmed(
    parts: list[Part], maps: dict[str, pd.DataFrame], others: dict[str, Bench], seed: int
) -> dict[Part, dict]:
    """Parts chosen on train keys: rates there and on test keys (`maps`), beside the other sources."""
    rows = {
        split: {as_part(row): row for row in table.itertuples()} for split, table in maps.items()
    }
    every = [[part] for part in parts]
    foreign = {
        name: [foreign_rates(bench, one, seed) for one in bench.exchange.each(every)]
        for name, bench in others.items()
    }
    found = {}
    for i, part in enumerate(parts):
        train, test = rows["train"][part], rows["test"][part]
        own = {
            name: getattr(test, name) for name in ("success", "other", "n", "n_keys", "n_margin")
        }
        own |= {name: number(getattr(test, name)) for name in ("margin", "recovered")}
        own["interval"] = None if pd.isna(test.low) else [test.low, test.high]
        controls = {name: foreign[name][i] if name in others else FOREIGN for name in SOURCES}
        ranking = {"train": float(train.success), "n_train": int(train.n)}
        found[part] = described(part) | ranking | own | {"controls": controls}
    return found


def foreign_rates(bench: Bench, written: Written, seed: int) -> dict:
    """Flips under other sources; `source_answer`: how often the source's own answer is written.

    That is counted on the `n_source_answer` rows where it is neither of the target's two answers.
    """
    found, rows = turned(bench, written, seed), bench.rows
    foreign = rows.source_answer.ne(rows.memory_answer) & rows.source_answer.ne(rows.rule_answer)
    wanted = bench.exchange.also.numpy()
    same = (written.tokens == wanted).all(axis=1)[foreign.to_numpy()]
    share = float(same.mean()) if len(same) else None
    return found | {"source_answer": share, "n_source_answer": len(same)}


def checks(bench: Bench, parts: list[Part]) -> dict[str, bool]:
    """Does the unpatched model answer as lab 03 saw, and does a prompt patched with itself change?"""
    target = bench.exchange.target
    clean = bench.exchange.clean.codes(target)
    itself = Interchange(bench.exchange.writer, target, target)
    patched = itself.patched([part for part in parts if part.kind != "position"])
    unpatched = bool((clean == CODE[START[bench.direction]]).all())
    same = (patched.tokens == itself.clean.tokens).all()
    near = np.allclose(patched.margin, itself.clean.margin, rtol=0, atol=1e-3)
    return {"unpatched_holds": unpatched, "identity_holds": bool(same and near)}


def by_layer(table: pd.DataFrame) -> dict[str, list]:
    """Flip rates by kind: a list over layers, of heads and of positions (last first) a list each."""
    found: dict[str, list] = {}
    for kind in KINDS:
        rows = table[table.kind == kind]
        of_layer = [part.success.tolist() for _, part in rows.groupby("layer", sort=True)]
        several = kind in ("head", "position")
        found[kind] = of_layer if several else [one for (one,) in of_layer]
    return found


@dataclass(frozen=True)
class Report:
    """One direction: its numbers, its maps of train and test keys, and what was checked."""

    numbers: dict
    maps: dict[str, pd.DataFrame]
    held: dict[str, bool]


def localized(
    train: Bench | None, test: Bench | None, answered: pd.DataFrame, p: PatchingParameters
) -> Report:
    """Parts ranked on pairs of train keys, all mapped and the best confirmed on those of test keys."""
    best = {kind: unconfirmed(kind) for kind in KINDS}
    counts = {
        "n": len(test.rows) if test else 0,
        "n_keys": len(set(test.keys)) if test else 0,
        "n_train": len(train.rows) if train else 0,
    }
    if train is None or test is None:
        nothing = {"train": None, "test": None, "best": best, "small": []}
        return Report(counts | nothing | {"heads": {"heads": []} | MEASURED}, {}, {})
    config = train.steering.model.config
    n_positions = min(train.n_positions, test.n_positions)
    parts = parts_of(config.num_hidden_layers, config.num_attention_heads, n_positions)
    maps = {
        split: map_parts(bench, parts, p.seed)
        for split, bench in (("train", train), ("test", test))
    }
    ranking, others = maps["train"], other_sources(test, answered, p)

    chosen, small = best_of_kinds(ranking), best_small(ranking, p.n_best)
    several = list(dict.fromkeys([*chosen.values(), *small]))
    shown_parts = confirmed(several, maps, others, p.seed)
    heads = best_heads(ranking, p.n_best)
    together = measured(test, test.exchange.patched(heads), p.seed)
    found = {
        "best": best | {kind: shown_parts[part] for kind, part in chosen.items()},
        "small": [shown_parts[part] for part in small],
        "heads": {"heads": [described(part) for part in heads]} | together,
    }
    rates = {split: by_layer(table) for split, table in maps.items()}
    return Report(counts | rates | found, maps, checks(test, parts))


def gathered(
    steering: Steering, reports: dict[str, Report], lost: dict, units: dict, beside: Result
) -> Result:
    """The stage's result. `lost`, `units`: by direction; `beside`: further tables and arrays."""
    config = steering.model.config
    held = [report.held for report in reports.values() if report.held]
    numbers = {
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "site": steering.site,
        "positions": steering.positions,
        "unpatched_holds": all(one["unpatched_holds"] for one in held),
        "identity_holds": all(one["identity_holds"] for one in held),
    } | {d: reports[d].numbers | {"necessity": lost[d], "units": units[d]} for d in DIRECTIONS}
    columns = ["direction", "split", "kind", "layer", "head", "position"]
    parts = [
        table.assign(direction=direction, split=split)
        for direction, report in reports.items()
        for split, table in report.maps.items()
    ]
    patches = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return Result(numbers, {"patches": patches} | beside.tables, beside.arrays)


def tables(rates: list[pd.DataFrame], grids: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """`necessity` and `unit_grid`: both directions below each other."""
    both = {"necessity": rates, "unit_grid": grids}
    return {name: pd.concat(parts, ignore_index=True) for name, parts in both.items()}


def answer(r: dict, direction: str) -> str:
    """One direction's answer to the lab's question, in two lines."""

    def rate(x: dict) -> str:
        return f"{shown(x['success'], '.0%')} {between(x['interval'], '.0%')}"

    x = r[direction]
    small = [f"{one['kind']} ({one['name']}) {rate(one)}" for one in x["small"]]
    residual, need, units = x["best"]["residual"], x["necessity"]["decision"], x["units"]
    own = need[START[direction]]
    return (
        f"{x['n']} pairs of {x['n_keys']} test keys. Residual stream ({residual['name']}):"
        f" {rate(residual)}; best small parts on train keys, on test keys: {'; '.join(small) or 'none'}.\n"
        f"   With its neurons at their mean {shown(own['kept'], '.0%')} of {own['n']} answers stay, with"
        f" random ones {shown(own['random_kept'], '.0%')}. MLP units turn {shown(units['success'], '.0%')}"
        f" of {units['n']}, coordinates {shown(units['residual']['success'], '.0%')}."
    )
