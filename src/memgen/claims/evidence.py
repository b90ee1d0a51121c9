"""What the claims are computed from: the tables of all runs of one track, summed by key."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from memgen.config.analyses import SynthesisParameters
from memgen.errors import StudyError
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.store.folders import input_folders
from memgen.store.left_out import there
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.terms import GENERALIZATION, MEMORIZATION, REPHRASINGS, WHOLE

#: kinds of outcomes that no size of a shift enters, and the cell that is reported without the limit
UNLIMITED = ("forbid_source", "force_target", *REPHRASINGS, "steered_max")


@dataclass
class Evidence:
    """What the claims are computed from, over all tasks and seeds of one track.

    `results[task][seed][stage]`: every `result.json`; of a run that was left out, as a model without
    both behaviours, those of the labs before. `behaviors` are of all runs, the rest of complete ones.
    Tables with one row per key of a seed:
    `behaviors` (task, seed, key, memory, rule, n), `scores` (one row per prompt: task, seed, key,
    label, probe and a column per baseline), `outcomes` (task, seed, direction, kind, key, wins, n,
    unlimited: see `outcomes_by_key`; of all draws of a control) and `transfers` (task, seed, source,
    direction, kind, own, shared, key, wins, n, control_wins, control_n). `later`: by task
    `later_share`, one per seed, and of how many neurons.
    """

    results: dict
    behaviors: pd.DataFrame
    scores: pd.DataFrame
    outcomes: pd.DataFrame
    transfers: pd.DataFrame
    later: dict[str, tuple[list[float], int]]
    track: str = "scratch"

    @property
    def tasks(self) -> list[str]:
        return list(self.results)

    @property
    def shared_keys(self) -> bool:
        """Were all seeds asked about the same keys? So it is on the tracks with one base."""
        return self.track != "scratch"

    def of_seeds(self, task: str) -> list[tuple[int, dict[str, dict]]]:
        """`(seed, results by stage)` of a task."""
        return [(seed, stages) for seed, stages in self.results[task].items() if seed != WHOLE]

    def contrast_on(self, task: str) -> str:
        """Which keys were trained with the rule's answer, too: `ContrastOn`."""
        return str(self.stage(task, "01_dataset_design")[0]["contrast_on"])

    def stage(self, task: str, stage: str) -> list[dict]:
        """A stage's results, one per seed; those seeds that have it."""
        return [stages[stage] for _, stages in self.of_seeds(task) if stage in stages]


def read_results(p: SynthesisParameters) -> dict[str, dict[int | str, dict[str, dict]]]:
    """`results[task][seed][stage]`, and `results[task]["all"]["07_transfer"]`."""
    results: dict = {}
    for folder in there(input_folders("08_synthesis", p)):
        task, name = folder.parts[-3:-1]
        seed = name if name == WHOLE else int(name.removeprefix("seed"))
        stage = FinishedStage(folder)
        results.setdefault(task, {}).setdefault(seed, {})[stage.name] = stage.result
    return results


def read_evidence(p: SynthesisParameters) -> Evidence:
    """The results of all runs and the tables behind them, summed by key. Only test keys are in it."""
    results = read_results(p)
    names = ("behaviors", "scores", "outcomes", "transfers")
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    later: dict[str, tuple[list[float], int]] = {}
    for task in results:
        for seed in p.seeds:
            run = FinishedRun.of(p, task, seed)
            found = {"behaviors": behaviors_by_key(run.answered())}
            if run.complete:
                found["scores"] = run["05_prediction"].table("scores")
                steered = run["06_intervention"]
                found["outcomes"] = outcomes_by_key(steered.table("outcomes"), steered.result)
                share, n_top = later_share(run["04_differentiation"])
                later[task] = ([*later.get(task, ([], 0))[0], share], n_top)
            for name, table in found.items():
                parts[name].append(table.assign(task=task, seed=seed))
        if "07_transfer" in results[task].get(WHOLE, {}):
            cells = FinishedRun.of(p, task, WHOLE)["07_transfer"].table("cells")
            parts["transfers"].append(transfers_by_key(cells).assign(task=task))
    if not parts["scores"]:
        raise StudyError(
            "no run of this study shows both behaviours, so that there is nothing to compare; page 02 of"
            " each run says how close it came: raise max_steps, or choose other seeds"
        )
    # on track given no lab tries one model's neurons on another
    parts["transfers"] = parts["transfers"] or [transfers_by_key(pd.DataFrame()).assign(task="")]
    tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
    return Evidence(results, **tables, later=later, track=p.track)


def behaviors_by_key(answered: pd.DataFrame) -> pd.DataFrame:
    """Answers to test keys' own conflict prompts, no rephrasing: key, memory, rule, n."""
    asked = answered[(answered.rephrasing == 0) & (answered.split == "test")]
    return asked.groupby("key", as_index=False).behavior.agg(
        memory=lambda b: (b == MEMORIZATION).sum(),
        rule=lambda b: (b == GENERALIZATION).sum(),
        n="size",
    )


def outcomes_by_key(outcomes: pd.DataFrame, result: dict) -> pd.DataFrame:
    """Prompts that changed sides, per key: direction, kind (steered or a control), key, wins, n.

    `wins` are those within the limit on lost free prompts. Where no cell stays within it (`result`
    of lab 06: `kept_exists`), nothing may be shifted: then every answer is the unsteered model's,
    which is the side that the prompts start from, and neither steering nor a control of its size
    turns one. What needs no shift (`UNLIMITED`) keeps its wins. `unlimited`: wins of the cell that
    was run, limit or not.
    """
    by_key = outcomes.groupby(["direction", "kind", "key"], as_index=False)
    found = by_key.success.agg(unlimited="sum", n="size")
    kept = found.direction.map({d: bool(result[d]["kept_exists"]) for d in set(found.direction)})
    return found.assign(wins=found.unlimited.where(kept | found.kind.isin(UNLIMITED), 0))


def later_share(differentiation: FinishedStage) -> tuple[float, int]:
    """Share of the top `TOP_SHARE` by |rho| in the later half of layers (a middle one: half), and
    how many neurons these are.
    """
    site = differentiation.result["site"]
    rho = NeuronMaps.of(differentiation.arrays("arrays"), site).rho
    by_layer = select_top(rho, TOP_SHARE).sum(1)
    half, odd = divmod(len(by_layer), 2)
    middle = by_layer[half] / 2 if odd else 0
    return float((by_layer[half + odd :].sum() + middle) / by_layer.sum()), int(by_layer.sum())


COUNTS = ["key", "wins", "n", "control_wins", "control_n"]


def transfers_by_key(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the transfer lab, per key; `seed`: of the base that the steered model began from.

    Retrains of a seed have its base and its test keys, so they are counted with it: an interval over
    seeds is about other bases, and says nothing of them where it has only one.
    """
    rows = [
        {
            "source": cell.source,
            "direction": cell.direction,
            "kind": cell.kind,
            "own": cell.source == cell.target,
            "shared": bool(cell.shared_base),
            "seed": f"seed {cell.seed}",
            **counts,
        }
        for cell in cells.itertuples()
        for counts in cell.by_key
    ]
    about = ["source", "direction", "kind", "own", "shared", "seed"]
    found = pd.DataFrame(rows, columns=[*about, *COUNTS])
    return found.groupby([*about, "key"], as_index=False, sort=False)[COUNTS[1:]].sum()
