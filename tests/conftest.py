"""What several test files share: data sets of a few prompts, and a planted model with its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import memgen  # noqa: F401  (first: it fixes the number of threads before torch starts)
from memgen.models.packaged import DEFAULT, place
from memgen.tasks import TASKS, make_task

N_KEYS = 10
SIZES = {"n_free": 80, "n_keyed": 50, "n_conflict_per_key": 6, "n_free_eval": 20}


MODEL = place() / DEFAULT
READS_SMOKE = {"smoke", "built_book"}  # fixtures that need the smoke study


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the smoke study are slow, and first: one worker makes it while the others do the rest.

    Those that need the packaged model are skipped where it is not.
    """
    without = pytest.mark.skip(reason=f"no {MODEL}: run make model")
    for item in items:
        if item.get_closest_marker("needs_model") and not MODEL.is_dir():
            item.add_marker(without)
        if READS_SMOKE & set(item.fixturenames):
            item.add_marker("slow")
    items.sort(key=lambda item: READS_SMOKE.isdisjoint(item.fixturenames))


@pytest.fixture(scope="session")
def smoke(tmp_path_factory, worker_id) -> Path:
    """The run folder of a finished smoke study of all five tasks, from scratch and with adapters,
    made the way a user makes it; its book is in `<folder>/_build/html`. All workers share it.
    """
    from running import smoke_book, smoke_labs

    shared = tmp_path_factory.getbasetemp()
    folder = (shared if worker_id == "master" else shared.parent) / "smoke"
    with FileLock(f"{folder}.lock"):  # the first worker makes it, the others wait
        if not folder.exists():
            folder.mkdir()
            smoke_labs(folder)
            smoke_book(folder)
    assert (folder / "_build" / "html").exists(), "the worker that made the smoke study failed"
    return folder


@pytest.fixture(autouse=True)
def no_planted_task():
    """What `computing.planted_lab` registers is forgotten when the test ends."""
    yield
    TASKS.pop("planted", None)


@pytest.fixture(scope="session")
def datasets() -> dict:
    """`{task name: (task, data set)}` of every task that needs no file, a few prompts each."""
    tasks = {name: make_task(name, N_KEYS, 0) for name in (*TASKS, "knowledge")}
    return {name: (task, task.generate(**SIZES)) for name, task in tasks.items()}


@pytest.fixture(scope="session")
def planted():
    """`make(task class, n_keys) -> (model, tokenizer, task, data set, answered conflict prompts)`
    with planted behaviour.
    """
    from memgen.models.tokenizer import build_tokenizer
    from memgen.neurons.pairs import answer_conflicts
    from planted import Planted, planted_model  # here, because most tests need no torch

    made = {}

    def make(cls=Planted, n_keys=10):
        if (cls, n_keys) not in made:
            task = cls(n_keys, 0)
            frame = task.generate(
                n_free=20, n_keyed=20, n_conflict_per_key=8, n_free_eval=10, shares=cls.SHARES
            )
            tokenizer = build_tokenizer(task.vocabulary())
            model = planted_model(tokenizer)
            made[cls, n_keys] = (
                model,
                tokenizer,
                task,
                frame,
                answer_conflicts(model, tokenizer, task, frame, 2),
            )
        return made[cls, n_keys]

    return make


@pytest.fixture(scope="session")
def planted_direction() -> dict:
    """NMD, rho and pair states `[n, 2, 8]` that single out coordinate 0 after the second block; all
    other neurons are noise.
    """
    rng = np.random.default_rng(0)
    nmd, rho = rng.normal(0, 0.02, (2, 8)), rng.uniform(-0.2, 0.2, (2, 8))
    nmd[1, 0], rho[1, 0] = 1.0, 0.9
    memory = rng.normal(0, 0.1, (20, 2, 8))
    rule = rng.normal(0, 0.1, (20, 2, 8)) + nmd
    arrays = {"memory": memory, "rule": rule}
    for site in ("resid_post", "mlp_out", "ln_2"):
        arrays |= {f"nmd.{site}": nmd, f"rho.{site}": rho}
    return arrays


@pytest.fixture
def alike(planted, planted_direction):
    """`(steering, data set, answered)` of the planted model whose keys are all alike; one neuron,
    shifted by 1, turns every answer (`steered.py`).
    """
    from memgen.neurons.nmd import NeuronMaps  # here, because most tests need no torch
    from memgen.steering.steering import Steering
    from planted import PlantedAlike

    model, tokenizer, task, frame, answered = planted(PlantedAlike)
    maps = NeuronMaps.of(planted_direction, "resid_post")
    return Steering(model, tokenizer, task, maps), frame, answered
