"""How the cost of capture and sweep grows with prompts, cells, layers and width, and how far it is
from what the machine can do.

One process, one thread. Along each axis one number of a base changes, all else stays. Measured in
CPU seconds, the engines in turn within a round: our capture and sweep, those of plain hooks, and a bare
forward pass of the captured prompts. The limit is a large matrix product, timed in the same rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch

from benchmarks.peers.engines import bare, ours, with_hooks
from benchmarks.peers.scenario import SIZES, Scenario, Size, make
from memgen.models.cost import Shape, answer_operations, pass_operations


@dataclass(frozen=True)
class Growth:
    """The base, the values along each axis, rounds, and the side of the square matrices."""

    base: Size
    axes: dict[str, tuple[int, ...]]
    rounds: int
    side: int
    NAMES: ClassVar[tuple[str, ...]] = ("full", "smoke")

    @classmethod
    def named(cls, name: str) -> Growth:
        """`full`: what the page shows; `smoke`: every path, in seconds."""
        if name == "smoke":
            return cls(SIZES["smoke"], {"prompts": (4, 8), "width": (16, 32)}, 2, 64)
        base = replace(SIZES["study"], captured=200, swept=100, alphas=(0.05, 1.0), top_ns=(0.9,))
        axes = {
            "prompts": (25, 50, 100, 200, 400),
            "cells": (2, 4, 8, 16, 32),
            "layers": (2, 4, 8, 16),
            "width": (64, 128, 256, 512, 1024),
        }
        return cls(base, axes, 5, 2048)

    def at(self, axis: str, value: int) -> Size:
        """The base with one number changed."""
        if axis == "prompts":
            return replace(self.base, captured=value, swept=value)
        if axis == "cells":  # each alpha gives two, all layers and the upper half
            return replace(self.base, alphas=tuple(2 * i / value for i in range(1, value // 2 + 1)))
        if axis == "width":  # heads as wide as the base's
            heads = value * self.base.heads // self.base.width
            return replace(self.base, width=value, heads=heads)
        return replace(self.base, layers=value)


def works(scenario: Scenario) -> dict[tuple[str, str], tuple[Callable[[], Any], int]]:
    """By work and engine, what is timed, and its operations; a sweep's as if nothing were shared."""
    mine, plain = ours.Engine(scenario), with_hooks.Engine(scenario)
    passes = bare.Engine(scenario)
    shape, tokens = Shape.of(plain.model.config), scenario.ids.shape[1]
    rows = len(scenario.deltas) * len(scenario.swept)
    capture = len(scenario.ids) * pass_operations(shape, tokens, 0)
    whole = len(scenario.ids) * pass_operations(shape, tokens, tokens)
    sweep = rows * answer_operations(shape, tokens, scenario.new)
    return {
        ("capture", "ours"): (mine.capture, capture),
        ("capture", "plain hooks"): (plain.capture, whole),
        ("forward", "bare"): (passes.capture, whole),
        ("sweep", "ours"): (lambda: mine.sweep("all"), sweep),
        ("sweep", "plain hooks"): (lambda: plain.sweep("all"), sweep),
    }


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(growth: Growth) -> tuple[pd.DataFrame, dict[str, Any]]:
    """`(rows, limit)`: seconds and operations by axis, value, work, engine and round; the product's."""
    torch.set_num_threads(1)  # as every engine's process has it
    rows: list[dict[str, Any]] = []
    matrix = torch.rand(growth.side, growth.side)
    product = []
    torch.mm(matrix, matrix)
    for axis, values in growth.axes.items():
        for value in values:
            print(f"growth: {axis} {value}", flush=True)
            with tempfile.TemporaryDirectory(prefix="growth-") as folder:
                timed = works(make(growth.at(axis, value), Path(folder)))
                for work, _ in timed.values():
                    work()  # warms up
                for number in range(growth.rounds):
                    product.append(seconds(lambda: torch.mm(matrix, matrix)))
                    for (work, engine), (call, operations) in timed.items():
                        about = {"axis": axis, "value": value, "work": work, "engine": engine}
                        took = {"cpu_seconds": seconds(call), "operations": operations}
                        rows.append(about | {"round": number} | took)
    limit = {"side": growth.side, "seconds": product, "operations": 2 * growth.side**3}
    return pd.DataFrame(rows), limit
