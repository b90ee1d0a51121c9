"""The live page computes what the labs compute: its own JavaScript, in node and in headless
Chromium, against PyTorch.

Looks at the models of the smoke book; or at those of another one (`MEMGEN_PROMPTS`: how many
prompts a task):

    MEMGEN_BOOK=_build/html MEMGEN_RUNS=data/runs/laptop MEMGEN_PROMPTS=200 \\
        pytest tests/press/test_live_engine.py
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import reading
from live_reference import Reference

from memgen.models.build import build_model
from memgen.models.hooks import shift
from memgen.models.tokenizer import build_tokenizer
from memgen.terms import START
from press.browser import NO_CHROMIUM, chromium, installed

N_PROMPTS = int(os.environ.get("MEMGEN_PROMPTS", 40))  # of each task, so 200 in all
N_INSTANCES, N_WHOLE_ANSWERS = 40, 8
TASKS = ("arithmetic-tagged", "arithmetic-matched", "inference", "cipher-tagged", "cipher-matched")
SCRIPTS = ("engine.js", "tasks.js", "models.js")

#: asks the model of a task what `Reference` is asked, too
EXAMINE = Path(__file__).with_name("examine.js").read_text(encoding="utf8")


class Live:
    """The scripts of a built book, the run behind it, and what PyTorch says."""

    def __init__(self, scripts: Path, runs: Path):
        self.scripts, self.runs = scripts, runs
        self.tasks = [task for task in TASKS if (scripts / f"model-{task}.js").is_file()]
        self.reference, self.job = cache(self._reference), cache(self._job)

    def files(self, task: str | None) -> list[Path]:
        own = [f"model-{task}.js", f"more-{task}.js"] if task else []
        return [self.scripts / name for name in (*SCRIPTS, *own)]

    def need(self, task: str) -> None:
        """Skip a test of a task that another book than the smoke study's does not show."""
        if task not in self.tasks:
            pytest.skip(f"this book does not show {task}")

    def _reference(self, task: str) -> Reference:
        script = (self.scripts / f"model-{task}.js").read_text(encoding="ascii")
        seed = json.JSONDecoder().raw_decode(script, script.index("{"))[0]["seed"]
        return Reference(self.runs / task / f"seed{seed}")

    def _job(self, task: str) -> dict:
        """What both sides are asked; also the answers that are classified: both right ones, with
        and without spaces, and wrong ones.
        """
        known = self.reference(task)
        instances = known.instances(N_INSTANCES)
        asked = [
            {
                "prompt": i.prompt,
                "answers": [
                    i.rule_answer,
                    i.memory_answer,
                    f" {i.rule_answer} ",
                    2 * i.rule_answer,
                    "no",
                ],
            }
            for i in instances
        ]
        prompts = known.prompts(N_PROMPTS)
        rows = known.answered[
            known.answered.prompt.isin(prompts[:N_WHOLE_ANSWERS])
        ].drop_duplicates("prompt")
        return {
            "task": task,
            "prompts": prompts,
            "settings": [None, *(s.as_json() for s in known.settings)],
            "grid": [s.as_json() for s in known.grid],
            "instances": asked,
            "wholeAnswers": [
                [row.prompt, text]
                for row in rows.itertuples()
                for text in (row.rule_answer, row.memory_answer)
            ],
        }


@pytest.fixture(scope="module")
def live(request) -> Live:
    if os.environ.get("MEMGEN_BOOK"):
        if not os.environ.get("MEMGEN_RUNS"):
            pytest.skip(
                "MEMGEN_BOOK names a book; name the run folder that it shows in MEMGEN_RUNS, too"
            )
        return Live(
            Path(os.environ["MEMGEN_BOOK"]).resolve() / "_static" / "live",
            Path(os.environ["MEMGEN_RUNS"]).resolve(),
        )
    smoke = request.getfixturevalue("smoke")
    live = Live(smoke / "_build" / "html" / "_static" / "live", smoke / "smoke")
    assert live.tasks == list(TASKS)
    return live


@pytest.fixture(scope="module")
def run_node(live, tmp_path_factory):
    """`run(task, expression)`: its value in node, after the scripts of the page and those of the
    task's model (None: no model).
    """
    if shutil.which("node") is None:
        pytest.skip("node is not installed; Chromium runs the same scripts")
    folder = tmp_path_factory.mktemp("node")

    def run(task: str | None, expression: str):
        load = "".join(
            f"vm.runInThisContext(fs.readFileSync({json.dumps(str(path))}, 'utf8'));\n"
            for path in live.files(task)
        )
        code = (
            "const vm = require('vm'), fs ="
            f" require('fs');\n{load}{EXAMINE}process.stdout.write(JSON.stringify({expression}));"
        )
        (folder / "run.js").write_text(code, encoding="utf8")
        return json.loads(
            subprocess.run(
                ["node", folder / "run.js"], capture_output=True, text=True, check=True, timeout=300
            ).stdout
        )

    return run


@pytest.fixture(scope="module")
def run_chromium(live, tmp_path_factory):
    """The same in a page that is opened from a file."""
    if installed() is None:
        pytest.skip(NO_CHROMIUM)
    page = tmp_path_factory.mktemp("page") / "page.html"
    with chromium() as browser:

        def run(task: str, expression: str):
            tags = "".join(f'<script src="{path.as_uri()}"></script>' for path in live.files(task))
            page.write_text(
                f"<!doctype html><title>engine</title>{tags}<script>{EXAMINE}</script>",
                encoding="utf8",
            )
            with reading(browser, page) as reader:
                found = json.loads(reader.evaluate(f"JSON.stringify({expression})"))
                visit = reader.visit
                assert not visit.errors and not visit.foreign and not visit.failed
                return found

        yield run


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("machine", ["node", "chromium"])
def test_javascript_computes_what_pytorch_computes(request, live, machine, task):
    live.need(task)
    run = request.getfixturevalue(f"run_{machine}")
    known, job = live.reference(task), live.job(task)
    found = run(task, f"examine({json.dumps(job)})")
    prompts, ways = job["prompts"], [None, *known.settings]
    assert len(prompts) == min(N_PROMPTS, known.answered.prompt.nunique())
    largest = {"logits": 0.0, "probe": 0.0, "log-probability": 0.0}
    for way, rows, whole in zip(ways, found["runs"], found["whole"], strict=True):
        name = way.name if way else "unsteered"
        logits, scores = (np.array([row[part] for row in rows]) for part in ("logits", "scores"))
        expected = known.probe_scores(prompts, way)
        differences = {
            "logits": np.abs(logits - known.logits(prompts, way)).max(),
            "probe": (np.abs(scores - expected) / np.maximum(1, np.abs(expected))).max(),
            "log-probability": max(
                abs(a - known.log_probability(*asked, way))
                for a, asked in zip(whole, job["wholeAnswers"], strict=True)
            ),
        }
        assert max(differences.values()) < 1e-4, (name, differences)
        for prompt, row, text in zip(prompts, rows, known.answers(prompts, way), strict=True):
            # two tokens that the last bits of a logit decide between may change places
            assert row["text"] == text or known.is_tie(prompt, row["text"], text, way), (
                name,
                prompt,
            )
        assert not any(row["tokens"] for row in rows)
        (prompt, rule), (_, memory) = job["wholeAnswers"][:2]
        assert not known.is_tie(prompt, rule, memory, way) and not known.is_tie(
            prompt, rule, rule, way
        )
        largest = {part: max(largest[part], float(differences[part])) for part in largest}
    print(
        f"{machine}, {task}: {len(ways)} times {len(prompts)} prompts, largest differences",
        ", ".join(f"{k} {v:.1e}" for k, v in largest.items()),
    )

    assert found["shifts"] == [known.delta(setting).ravel().tolist() for setting in known.grid]
    assert found["wayShifts"][1:] == [
        known.delta(setting).ravel().tolist() for setting in known.settings
    ]
    check_rules(known, job, found)


def check_rules(known: Reference, job: dict, found: dict) -> None:
    """Key, both answers and kind of every prompt, and the class of every answer, are those of the
    task in Python.
    """
    assert {i.kind for i in known.instances(N_INSTANCES)} == set(known.frame.kind)
    for instance, asked, parsed, classes in zip(
        known.instances(N_INSTANCES),
        job["instances"],
        found["parsed"],
        found["classes"],
        strict=True,
    ):
        assert {name: parsed[name] or "" for name in ("key", "rule", "memory")} == {
            "key": instance.key,
            "rule": instance.rule_answer,
            "memory": instance.memory_answer,
        }, asdict(instance)
        assert parsed["kind"] == instance.kind, asdict(instance)
        # an empty answer is no rule's answer where there is none; Python is never asked that
        assert classes == [
            known.task.classify(instance, answer) if answer.strip() else "other"
            for answer in asked["answers"]
        ], asdict(instance)


def test_the_random_control_moves_the_coordinates_alike_in_all_layers(live, run_node):
    task = live.tasks[-1]
    known = live.reference(task)
    n_layer, width = known.nmd.shape
    setting = {**known.settings[0].as_json(), "topN": 0.5, "layers": [True] * n_layer}
    top, one, again, other = run_node(
        task,
        f"""[null, 1, 1, 2].map(random => {{
        const model = Memgen.model({json.dumps(task)});
        const {{delta, neurons}} = model.shift({{...{json.dumps(setting)}, random}});
        return {{delta: [...delta], neurons: [...neurons]}};
    }})""",
    )
    assert one == again and one != other and len(top["neurons"]) > 1
    columns = np.reshape(
        top["delta"], (n_layer, width)
    ).T.tolist()  # what a coordinate gets, by layer
    for drawn in (one, other):
        assert drawn["neurons"] == np.flatnonzero(drawn["delta"]).tolist()
        dealt = np.reshape(drawn["delta"], (n_layer, width)).T.tolist()
        assert dealt != columns and sorted(dealt) == sorted(columns)


def test_a_remembered_prompt_is_not_taken_for_another(live, run_node):
    """The model keeps the run of the latest prompt: another text, shift or place of the shift, also
    one changed in place, is run anew.
    """
    task = live.tasks[-1]
    one, two = live.reference(task).prompts(2)
    asked = run_node(
        task,
        f"""(() => {{
        const model = Memgen.model({json.dumps(task)}), found = [];
        const {{delta}} = model.shift({{direction: "m2g", alpha: 4, topN: 0.3}});
        const [one, two] = {json.dumps([one, two])}, decision = {{delta, positions: "decision"}};
        const ask = (text, way) => {{
            const runs = [model.answer(text, way), model.run(model.encode(text), way)];
            found.push(runs.map(run => [...run.logits]));
        }};
        ask(one, {{}});
        ask(one, {{delta}});
        ask(one, decision);
        ask(two, decision);
        delta.forEach((value, i) => {{ delta[i] = 2 * value; }});
        ask(two, decision);
        return found;
    }})()""",
    )
    assert all(remembered == fresh for remembered, fresh in asked)
    assert len({tuple(fresh) for _, fresh in asked}) == len(asked)


@torch.inference_mode()
def test_odd_sizes_a_head_of_its_own_and_a_cache_that_goes_on(run_node):
    """What the study's own models do not have: 2 heads of 3, 11 tokens, an untied head; and every
    number of rows, with the cache cut in two.
    """
    tokenizer = build_tokenizer(list("abcdefgh"))
    model = build_model(
        tokenizer, n_layer=3, n_embd=6, n_head=2, n_positions=12, initializer_range=0.7, seed=1
    ).eval()
    model.lm_head.weight = torch.nn.Parameter(
        torch.randn(len(tokenizer), 6, generator=torch.Generator().manual_seed(2))
    )
    tensors = {
        name.removeprefix("transformer."): tensor.numpy()
        for name, tensor in model.state_dict().items()
    }
    tensors |= {name: np.zeros((3, 6), np.float32) for name in ("nmd", "rho")}
    meta = {
        "task": "odd",
        "family": "none",
        "vocabulary": tokenizer.convert_ids_to_tokens(range(11)),
        "special": [0, 1, 2],
        "end": 1,
        "n_layer": 3,
        "n_head": 2,
        "d_model": 6,
        "layer_norm_epsilon": 1e-5,
        "max_positions": 12,
        "max_answer_tokens": 3,
        "tensors": [[name, t.shape] for name, t in tensors.items()],
    }
    blob = base64.b64encode(
        np.concatenate([t.astype("<f4").ravel() for t in tensors.values()]).tobytes()
    ).decode()
    delta = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    rows = [[3 + (5 * i + 3 * n) % 8 for i in range(n)] for n in range(1, 12)]
    found = run_node(
        None,
        f"""(() => {{
        Memgen.receive("odd", {json.dumps(meta)}, "{blob}");
        const model = Memgen.model("odd"), delta = Float32Array.from({delta.ravel().tolist()});
        const last = (ids, way) => {{
            const run = model.run(ids, way);
            return [[...run.logits], [...run.states]];
        }};
        return {json.dumps(rows)}.map(ids => ["all", "decision"].map(positions => {{
            const cut = ids.length >> 1, way = {{delta, positions}};
            const head = cut ? model.run(ids.slice(0, cut), way) : {{}};
            return [last(ids, way), last(ids.slice(cut), {{...way, cache: head.cache}})];
        }}));
    }})()""",
    )

    def feed(ids, positions, cache=None):
        with shift(model, "resid_post", torch.from_numpy(delta), positions):
            return model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)

    for ids, of_positions in zip(rows, found, strict=True):
        for positions, (whole, in_two) in zip(("all", "decision"), of_positions, strict=True):
            cut = len(ids) // 2
            head = feed(ids[:cut], positions).past_key_values if cut else None
            np.testing.assert_allclose(whole[0], feed(ids, positions).logits[0, -1], atol=1e-4)
            np.testing.assert_allclose(
                in_two[0], feed(ids[cut:], positions, head).logits[0, -1], atol=1e-4
            )
            if positions == "all":
                np.testing.assert_allclose(whole[1], in_two[1], atol=1e-4)


def test_bad_input_gets_a_sentence_that_says_what_is_allowed(live, run_node):
    live.need(TASKS[0])
    prompts = ["", "  ", "12+34=56=hello", "+".join(["12"] * 30) + "="]
    said = run_node(
        TASKS[0],
        f"""{json.dumps(prompts)}.map(prompt => {{
        try {{ return [...Memgen.model({json.dumps(TASKS[0])}).encode(prompt)]; }}
        catch (error) {{ return [error instanceof Memgen.InputError, error.message]; }}
    }})""",
    )
    assert all(
        is_input_error is True and "three numbers of two digits" in message
        for is_input_error, message in said
    )
    for (_, message), part in zip(
        said, ("is empty", "is empty", "“hello” at character 10", "60 tokens")
    ):
        assert part in message


def test_the_first_prompts_of_the_page_are_of_test_keys_and_of_both_behaviours(live, run_node):
    for task in live.tasks:
        known = live.reference(task)
        meta = run_node(task, f"Memgen.model({json.dumps(task)}).meta")
        rows = known.answered.drop_duplicates("prompt").set_index("prompt")
        examples = meta["examples"]
        assert len({example["prompt"] for example in examples}) == len(examples) > 0
        for example in examples:
            row = rows.loc[example["prompt"]]
            assert row.split == "test" and row.behavior == example["behavior"]
        assert {example["behavior"] for example in examples} == {"memorization", "generalization"}
        assert {rows.loc[prompt].behavior for prompt in meta["first"].values()} == {
            *(START[direction] for direction in meta["first"])
        }
        assert meta["max_answer_tokens"] == known.task.max_answer_tokens
        assert meta["keys"] == {name: key.memory_answer for name, key in known.task.keys.items()}


def test_the_forbidden_token_and_the_rivals_vectors_do_what_the_labs_do(live, run_node):
    """On the prompts that the page runs one after the other: behaviours, not only rates, are lab 06's."""
    for task in live.tasks:
        known = live.reference(task)
        job = {"task": task, "n": N_PROMPTS, "doses": [0.0, 0.5, 1.0]}
        found = run_node(task, f"everything({json.dumps(job)})")
        rows = known.answered.drop_duplicates("prompt").set_index("prompt", drop=False)
        for direction, asked in found["prompts"].items():
            prompts = rows.loc[asked]
            assert found["forbidden"][direction] == known.forbidden(prompts, direction)
        for name, of in known.vectors.items():
            for direction, vector in of.items():
                for dose, delta in zip(job["doses"], found["vectors"][name][direction]):
                    assert delta == (np.float32(dose) * vector).ravel().tolist()
        assert set(found["vectors"]) == set(known.vectors)
        meta, more = run_node(
            task, f"(({{meta, more}}) => [meta, more])(Memgen.model({json.dumps(task)}))"
        )
        said = {"nmd": meta["results"]} | more["methods"]
        for name, counts in found["turned"].items():  # over all prompts: the labs' own rates
            for direction, count in zip(found["prompts"], counts, strict=True):
                of = said[name][direction]
                assert of["n"] == len(more["prompts"][direction])
                assert count == pytest.approx(of["success"] * of["n"], abs=1 + 1e-6)  # a tie
