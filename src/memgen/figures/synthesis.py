"""Figures of lab 8: the main finding, the gate, the ledger of claims, the two formats."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.legend_handler import HandlerTuple

from memgen.claims.success import AHEAD, FORBID, aucs, describe, row_of, without_kept
from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    GREEN,
    ORANGE,
    PANEL_NAME,
    PURPLE,
    SMALL,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.stats.auc import CHANCE
from memgen.stats.reported import between, shown
from memgen.tasks.families import variants
from memgen.terms import (
    BEST_OF_RANDOM,
    CONTRADICTED,
    DIRECTIONS,
    OPEN,
    REVERSED,
    SUPPORTED,
    VERDICTS,
)

VERDICT_COLOR = {
    SUPPORTED: GREEN,
    CONTRADICTED: "#222222",
    REVERSED: PURPLE,
    OPEN: COLOR["other"],
}
VERDICT_MARK = {SUPPORTED: "o", CONTRADICTED: "X", REVERSED: "v", OPEN: "s"}
GATE = {
    "memory": ("memory", COLOR["memorization"]),
    "rule": ("rule", COLOR["generalization"]),
    "other": ("other", COLOR["other"]),
    "free": ("free right", "black"),
}
FORMAT_TITLES = {"m2g": "m2g success", "g2m": "g2m success", "auc": "AUC"}
NARROW, NUMBERS_AT = 5.4, 1.06  # inches; where the column of numbers begins, on the axis of shares
FORMAT_STYLE = {"tagged": (-0.13, PURPLE, "o"), "matched": (0.13, ORANGE, "s")}


def main_finding(table: pd.DataFrame, auc: pd.DataFrame) -> Drawing:
    """The study in one figure: steering beside two things it is held against, and the probe's AUC.

    `table`: `success_table`; `auc`: by task `probe` and `without`. It is narrow, because the home page
    shows it on phones, where the width decides how small the type gets.
    """
    tasks = list(dict.fromkeys(table.task))
    fig, axes = plt.subplots(1, 2, figsize=(NARROW, 1.7 + 0.84 * len(tasks)), sharey=True)
    y = np.arange(len(tasks))[::-1]
    for ax, direction in zip(axes, DIRECTION_NAME, strict=True):
        kinds = (
            ("steered", 0.27, DIRECTION_COLOR[direction]),
            (BEST_OF_RANDOM, 0.0, COLOR["null"]),
            (FORBID, -0.27, COLOR["control"]),
        )
        for kind, offset, color in kinds:
            for at, task in zip(y + offset, tasks, strict=True):
                _bar(ax, at, row_of(table, task, direction, kind), color)
        ax.set(title=PANEL_NAME[direction], xlabel="change sides")
        share_axis(ax, "x")
        # the numbers stand in a column of their own, where no bar or line of an interval ends
        ax.set(xlim=(0, NUMBERS_AT + 0.47), xticks=(0, 0.5, 1))
    labels = [f"{task}, {aucs(auc, task)}".replace(", ", "\n").replace("-", " ") for task in tasks]
    axes[0].set_yticks(y, labels, fontsize=SMALL)
    for ax in axes:
        ax.tick_params(axis="y", length=0)  # a tick would look like the end of an interval
    box = {"xy": (0, 0), "width": 1, "height": 1}
    both = tuple(plt.Rectangle(**box, color=color) for color in DIRECTION_COLOR.values())
    handles = [both, *(plt.Rectangle(**box, color=COLOR[name]) for name in ("null", "control"))]
    names = [
        "top neurons (blue: to the rule)",
        "best random direction",
        "one token forbidden, no shift",
    ]
    fig.legend(handles, names, loc="outside lower left", handler_map={tuple: HandlerTuple(None)})
    few = without_kept(table)
    caption = (
        "Steering on test keys, within a limit on lost free prompts, beside the best of many random"
        " directions of the same size, chosen on the same validation prompts, and beside the untouched"
        " model with the first token of its answer forbidden. Means of seeds with 95 % intervals over"
        " seeds; and the AUC of the best layer's probe, beside the strongest forecast without this"
        " model's states."
    )
    if few:
        caption += (
            " Where a star stands, some seeds have no strength within the limit; nothing is shifted"
            f" there and nothing turns. Seeds that have one: {few}."
        )
    return Drawing(fig, describe(table, auc), caption, "main-finding")


def _bar(ax: plt.Axes, y: float, row: pd.Series | None, color: str) -> None:
    if row is None:
        return
    ends = np.nan_to_num([row.low, row.high], nan=row.rate).clip(0, 1)
    error = np.abs(ends - row.rate)[:, None]
    ax.barh(y, row.rate, 0.25, xerr=error, color=color, error_kw={"lw": 1, "ecolor": "#222222"})
    star = "*" if row.kind == "steered" and row.n_kept < row.n_seeds else ""
    ax.text(NUMBERS_AT, y, f"{row.rate:.0%}{star}", va="center", fontsize=SMALL)


def forecasts(table: pd.DataFrame, numbers: dict[str, dict], claims: list[dict]) -> Drawing:
    """All tasks: AUC of the probe beside the strongest forecast without this model's states; its gain.

    `table`: `overview`, `numbers`: `main_numbers` (AUC with its interval over seeds), `claims`: as judged;
    the gain, its interval and its verdict are those of the claim `AHEAD`.
    """
    tasks = list(dict.fromkeys(table.task))
    cases = next((claim["cases"] for claim in claims if claim["id"] == AHEAD), {})
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 1.5 + 0.8 * len(tasks)), sharey=True, width_ratios=(3, 2)
    )
    said = []
    for y, task in zip(range(len(tasks))[::-1], tasks, strict=True):
        rows, probe = table[table.task == task], numbers[task]["auc"]
        for column, at, color in (("auc", 0.17, "black"), ("chosen_baseline_auc", -0.17, ORANGE)):
            left.plot(rows[column], [y + at] * len(rows), ".", color=color, alpha=0.5, ms=6)
        without = rows.chosen_baseline_auc.mean()
        _interval(left, y + 0.17, probe["value"], (probe["low"], probe["high"]), "black", "o")
        _interval(left, y - 0.17, without, (None, None), ORANGE, "D")
        said.append(f"{task}: probe {_said(probe)}, strongest forecast {_decimal(without)}")
        if task in cases:
            gain = cases[task]
            _interval(
                right, y, gain["effect"], gain["interval"], VERDICT_COLOR[gain["verdict"]], "o"
            )
            ends = between(gain["interval"])
            said[-1] += f", gain {gain['effect']:+.2f} {ends}, {gain['verdict']}"
            right.text(0, y + 0.2, gain["verdict"], ha="center", fontsize=SMALL)
    for ax in (left, right):
        for line in range(1, len(tasks)):
            ax.axhline(line - 0.5, color="#DDDDDD", lw=0.8, zorder=0)
    left.set_yticks(range(len(tasks))[::-1], [_in_lines(task) for task in tasks])
    left.tick_params(axis="y", length=0)
    left.axvline(CHANCE, color=COLOR["control"], lw=0.8, ls=":")
    right.axvline(0, color=COLOR["control"], lw=0.8, ls=":")
    left.set(title="AUC on test keys", xlim=(None, 1.02), ylim=(-0.5, len(tasks) - 0.5))
    right.set(title="gain of the probe", xlim=_around_zero(right))
    marks = (("black", "o", "the probe"), (ORANGE, "D", "strongest without states"))
    handles = [plt.Line2D([], [], color=color, marker=mark, ls="") for color, mark, _ in marks]
    fig.legend(handles, [text for *_, text in marks], loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=f"AUC of the probe beside the strongest forecast without this model's states. {'; '.join(said)}.",
        caption=(
            "Every task: can it be told before the answer which behaviour comes? Black: the probe of the"
            " best layer, mean of the seeds with its 95 % interval over seeds; orange: the strongest"
            " forecast that needs no hidden state of this model, as chosen on train keys; dots: seeds;"
            " dotted: a coin. Right: the probe's gain over it (or over the coin), with the ledger's"
            " interval and verdict."
        ),
        name="every-task",
    )


def _interval(ax: plt.Axes, y: float, value: float | None, ends, color: str, mark: str) -> None:
    """One number with its interval; nothing where it is not defined."""
    if value is None or np.isnan(value):
        return
    if None not in ends:
        ax.plot(ends, [y, y], color=color, lw=2)
    ax.plot(value, y, mark, color=color, ms=7)


def _around_zero(ax: plt.Axes) -> tuple[float, float]:
    """Limits as far to the left of zero as to the right, so that a word fits above it."""
    reach = max(map(abs, ax.get_xlim()))
    return -reach, reach


def _in_lines(task: str) -> str:
    return task.replace("-", "\n")


def _decimal(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.2f}"


def gate(table: pd.DataFrame) -> Drawing:
    """Behaviour on test keys (`table`: `overview`), a colour per rate: dots seeds, bars means."""
    tasks = list(dict.fromkeys(table.task))
    fig, ax = plt.subplots(figsize=(WIDTH, 1.3 + 0.75 * len(tasks)))
    height = {task: i for i, task in enumerate(reversed(tasks))}
    for i, (column, (title, color)) in enumerate(GATE.items()):
        place = 0.3 - 0.2 * i
        y = [height[task] + place for task in table.task]
        ax.plot(table[column], y, "o", color=color, alpha=0.7, ms=5, label=title)
        for task, rows in table.groupby("task"):
            ends = [height[task] + place - 0.1, height[task] + place + 0.1]
            ax.plot([rows[column].mean()] * 2, ends, color="black", lw=2)
    for line in range(1, len(tasks)):
        ax.axhline(line - 0.5, color="#DDDDDD", lw=0.8)
    ax.set_yticks(list(height.values()), [_in_lines(task) for task in height])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="share of test prompts", ylim=(-0.5, len(tasks) - 0.5))
    share_axis(ax, "x")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(GATE))
    alt = "Dots: behaviour on test conflict prompts of every task and seed: " + "; ".join(
        f"{row.task} seed {row.seed}: memory {row.memory:.2f}, rule {row.rule:.2f}, other"
        f" {row.other:.2f}, free {row.free:.2f}"
        for row in table.itertuples()
    )
    return Drawing(fig, alt, "The gate on test keys: every seed a dot, the mean a bar.", "gate")


def verdicts(claims: list[dict]) -> Drawing:
    """The whole ledger at a glance: a row per tested claim, a column per task, a mark per verdict."""
    claims = [claim for claim in claims if claim["cases"]]
    cases = list(dict.fromkeys(case for claim in claims for case in claim["cases"]))
    fig, ax = plt.subplots(figsize=(WIDTH, 2.4 + 0.24 * len(claims)))
    for y, claim in enumerate(claims):
        for case, found in claim["cases"].items():
            verdict = found["verdict"]
            size = 5 if verdict == OPEN else 8
            ax.plot(
                cases.index(case), y, VERDICT_MARK[verdict], color=VERDICT_COLOR[verdict], ms=size
            )
        if y and claim["group"] != claims[y - 1]["group"]:
            ax.axhline(y - 0.5, color="#BBBBBB", lw=0.8)
    ax.set_yticks(range(len(claims)), [claim["name"] for claim in claims], fontsize=SMALL)
    names = [case.replace(" against ", " / ") for case in cases]
    ax.set_xticks(range(len(cases)), names, rotation=70, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.5, len(cases) - 0.5), ylim=(len(claims) - 0.5, -0.5))
    for verdict in VERDICTS:
        ax.plot([], [], VERDICT_MARK[verdict], color=VERDICT_COLOR[verdict], label=verdict)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    alt = "Verdict of every claim on every task: " + " ".join(
        f"{claim['name']}: "
        + ", ".join(f"{case} {found['verdict']}" for case, found in claim["cases"].items())
        + "."
        for claim in claims
    )
    caption = (
        "The ledger at a glance: a row is a claim, a column a task (or what else it is about, a"
        " stroke: one against the other); where"
        " there is no mark, the claim is not about that task."
    )
    return Drawing(fig, alt, caption, "ledger")


def forest(claims: list[dict], group: str) -> Drawing:
    """A group's claims on every case: effect and interval as distance from the threshold.

    Right of the line is the side that supports the claim; a tick stands at the smallest effect of
    interest.
    """
    claims = [claim for claim in claims if claim["cases"] and claim["group"] == group]
    alt = f"{group}: effect less threshold with its 95 % interval, by task. " + " ".join(
        f"{claim['name']}: {claim['evidence']}" for claim in claims
    )
    rows = sum(len(claim["cases"]) for claim in claims)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.4 + 0.17 * rows + 0.2 * len(claims)))
    y, ticks = 0.0, []
    for claim in claims:
        sign = 1 if claim["above"] else -1
        first = y
        for case in claim["cases"].values():
            color = VERDICT_COLOR[case["verdict"]]
            at = sign * (case["effect"] - claim["threshold"])
            ax.plot(np.clip(at, -1, 1), y, VERDICT_MARK[case["verdict"]], color=color, ms=5)
            if case["interval"][0] is not None:
                ends = [sign * (edge - claim["threshold"]) for edge in case["interval"]]
                ax.plot(np.clip(ends, -1.1, 1.1), [y, y], color=color, lw=1.5)
            y += 1
        if claim["margin"]:
            ax.plot([claim["margin"]] * 2, [first - 0.3, y - 0.7], color="black", lw=0.8, ls=":")
        ticks.append(((first + y - 1) / 2, claim["name"]))
        y += 0.6
        ax.axhline(y - 0.8, color="#DDDDDD", lw=0.6)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks], fontsize=SMALL)
    ax.set(
        xlabel="effect less threshold (right: for the claim)",
        ylim=(y - 0.4, -1),
        xlim=(-1.05, 1.05),
    )
    for verdict in VERDICTS:
        ax.plot([], [], VERDICT_MARK[verdict], color=VERDICT_COLOR[verdict], label=verdict)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    caption = (
        f"{group}. Each mark is a task, from top to bottom in the order of the tables: its effect as"
        " distance from the threshold, with a 95 % interval over seeds (what lies beyond 1 is cut)."
        " Dotted: the smallest effect that would matter."
    )
    return Drawing(fig, alt, caption, f"ledger-{group.lower().replace(',', '').replace(' ', '-')}")


def formats(numbers: dict[str, dict], families: list[str]) -> Drawing:
    """Tagged against matched, one family at least: steering, AUC; `numbers`: `main_numbers`."""
    fig, axes = plt.subplots(
        1, len(FORMAT_TITLES), figsize=(WIDTH, 1.6 + 0.7 * len(families)), sharey=True
    )
    for ax, (name, title) in zip(axes, FORMAT_TITLES.items(), strict=True):
        for row, family in enumerate(families):
            for (variant, style), task in zip(FORMAT_STYLE.items(), variants(family), strict=True):
                shift, color, marker = style
                x = numbers[task][name]
                if x["value"] is None:
                    continue
                if x["low"] is not None:
                    ax.plot([x["low"], x["high"]], [row + shift] * 2, color=color, lw=2)
                label = f"{variant} answers" if not row else None
                ax.plot(x["value"], row + shift, marker, color=color, ms=7, label=label)
        if name == "auc":
            ax.axvline(0.5, color="#999999", lw=0.8, ls=":")
        ax.set(
            title=title,
            xlim=(-0.03, 1.03),
            yticks=range(len(families)),
            yticklabels=families,
            ylim=(len(families) - 0.5, -0.5),
            xticks=[0, 0.5, 1],
        )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    alt = "Tagged against matched answers: " + "; ".join(
        f"{family} {name}: " + " against ".join(_said(numbers[t][name]) for t in variants(family))
        for family in families
        for name in FORMAT_TITLES
    )
    caption = (
        "The same keys, prompts and recipe (`cipher-matched` may train for more steps); otherwise only"
        " the format of the memory answer differs. Success within the limit on lost free prompts; 95 %"
        " intervals over seeds."
    )
    return Drawing(fig, alt, caption, "format")


def _said(number: dict) -> str:
    return "undefined" if number["value"] is None else f"{number['value']:.2f}"


def forecast(table: pd.DataFrame, found: dict) -> Drawing:
    """Agreement and separation of the train pairs against success on test keys; a point per run.

    table: task, seed, direction, cosine, separation, success; found: by direction and predictor the
    rank correlation over tasks and its p.
    """
    predictors = {"cosine": "mean cosine of the differences", "separation": "separation (d')"}
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.2), sharey=True, sharex="col")
    tasks, told = list(dict.fromkeys(table.task)), []
    marks = "osD^vP"
    for i, direction in enumerate(DIRECTIONS):
        rows = table[table.direction == direction]
        for j, (name, text) in enumerate(predictors.items()):
            ax = axes[i, j]
            for k, task in enumerate(tasks):
                mine = rows[rows.task == task]
                ax.plot(mine[name], mine.success, marks[k % len(marks)], color=f"C{k % 6}", ms=6)
            one = found[direction][name]
            ax.set_title(f"{direction}: {shown(one['value'], '+.2f')}", fontsize=11)
            told.append(f"{direction}, {text}: {shown(one['value'], '+.2f')}, p {shown(one['p'])}")
            share_axis(ax)
            if i == 1:
                ax.set_xlabel(text)
        axes[i, 0].set_ylabel("success")
    handles = [
        plt.Line2D([], [], color=f"C{k % 6}", marker=marks[k % len(marks)], ls="")
        for k in range(len(tasks))
    ]
    fig.legend(handles, tasks, loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt="What train pairs alone say against success on test keys, a point per run; Spearman over the"
        " tasks' means: " + "; ".join(told),
        caption="Can steering be predicted? Across: what the train pairs say before anything is shifted. Up:"
        " success on test keys within the limit. In the title: Spearman's correlation of the tasks' means.",
        name="forecast",
    )
